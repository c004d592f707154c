-- Every attempt that diverged, failed or was lost, with how far it came and what ended it.
select cell, trial, attempt, status, epochs, worker, ended, error
from trials_all
where sweep = $sweep and status in ('diverged', 'failed', 'lost')
order by cell, trial, attempt

-- What each cell has cost: trials by how they ended, restarts, epochs, gradient evaluations and device hours.
with attempts as (
    select trial, count(*) - 1 as restarts from trials_all where sweep = $sweep group by trial
)
select
    cell,
    count(*) as trials,
    count(*) filter (status = 'finished') as finished,
    count(*) filter (status = 'pruned') as pruned,
    count(*) filter (status in ('diverged', 'failed', 'lost')) as failed,
    count(*) filter (status in ('running', 'stopped')) as unfinished,
    sum(restarts)::bigint as restarts,
    sum(epochs)::bigint as epochs,
    sum(gradient_evaluations)::bigint as gradient_evaluations,
    sum(train_seconds) / 3600 as train_hours,
    sum(evaluation_seconds) / 3600 as evaluation_hours,
    sum(device_seconds) / 3600 as device_hours,
    coalesce(sum(device_seconds) filter (status in ('diverged', 'failed', 'lost')), 0) / 3600 as failed_device_hours
from trials join attempts using (trial)
where sweep = $sweep
group by cell
order by cell

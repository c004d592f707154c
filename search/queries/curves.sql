-- The goal metric on the validation split after each epoch of each trial, with the cost up to there.
select
    trials.cell, trials.trial, trials.status, metrics.epoch, metrics.metric, metrics.value,
    metrics.gradient_evaluations, metrics.train_seconds, metrics.device_seconds
from metrics join trials using (sweep, trial)
where sweep = $sweep and metrics.split = 'valid' and metrics.metric = trials.metric
    -- The same once more, which lets the engine drop the other metrics before it joins.
    and metrics.metric in (select metric from trials where sweep = $sweep)
order by trials.cell, trials.trial, metrics.epoch

-- The arms (objective and update) of each dataset, model and optimizer side by side: best and middle score, and cost.
select
    dataset, model, optimizer, objective, update,
    any_value(metric) as metric,
    count(*) as trials,
    count(*) filter (status in ('diverged', 'failed', 'lost')) as failed,
    case any_value(mode)
        when 'max' then max(best_score) filter (usable) else min(best_score) filter (usable)
    end as best_score,
    median(best_score) filter (usable) as median_score,
    sum(gradient_evaluations)::bigint as gradient_evaluations,
    sum(device_seconds) / 3600 as device_hours
from (
    select *, status in ('finished', 'pruned') and isfinite(best_score) as usable
    from trials
    where sweep = $sweep
)
group by dataset, model, optimizer, objective, update
order by dataset, model, optimizer, objective, update

-- The best finished trial of each cell by its goal metric on the validation split, with what it was tuned to and what it cost.
with candidates as (
    select
        *,
        count(*) over (partition by cell) as candidates,
        row_number() over (
            partition by cell
            order by case mode when 'max' then -best_score else best_score end, started, trial
        ) as place
    from trials
    where sweep = $sweep and status = 'finished' and isfinite(best_score)
),
settings as (
    select
        trial,
        string_agg(name || '=' || coalesce(text, format('{:g}', number)), ' ' order by name) as tuned_to
    from params
    where sweep = $sweep and tuned
    group by trial
)
select
    cell, trial, seed, metric, best_score, best_epoch, tuned_to, candidates,
    epochs, gradient_evaluations, device_seconds
from candidates left join settings using (trial)
where place = 1
order by cell

"""Is this optimizer better? A ranking over tasks, with equal tuning. It needs the extra `ranking`.

- `spaces`: what random values a hyperparameter takes
- `contenders`: optimizers with their search spaces and schedules
- `tasks`: what is trained, on which data
- `trials`: the random trials of a contender on a task, and the runs of the best
- `statistics`: better, worse, or cannot be told
- `curves`: tuning curves, sensitivity to the learning rate, time to the target, profiles
- `settings`: what the results depend on
- `ranking`: `rank_optimizers`
- `figures`: a plot of each result
- `report`: a ranking in a folder, from which it can be repeated
"""

from jaxnet.ranking.contenders import Contender as Contender
from jaxnet.ranking.contenders import constant as constant
from jaxnet.ranking.contenders import cosine as cosine
from jaxnet.ranking.contenders import standard_contenders as standard_contenders
from jaxnet.ranking.contenders import trapezoid as trapezoid
from jaxnet.ranking.contenders import warm_restarts as warm_restarts
from jaxnet.ranking.ranking import Ranking as Ranking
from jaxnet.ranking.ranking import rank_optimizers as rank_optimizers
from jaxnet.ranking.report import repeat_ranking as repeat_ranking
from jaxnet.ranking.report import save_ranking as save_ranking
from jaxnet.ranking.spaces import Choice as Choice
from jaxnet.ranking.spaces import LogUniform as LogUniform
from jaxnet.ranking.spaces import Uniform as Uniform
from jaxnet.ranking.statistics import Comparison as Comparison
from jaxnet.ranking.tasks import Task as Task
from jaxnet.ranking.tasks import make_task as make_task
from jaxnet.ranking.tasks import standard_tasks as standard_tasks
from jaxnet.ranking.trials import Outcome as Outcome

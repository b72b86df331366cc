/* Where a run's time goes, node by node. LK_PROFILE=1 in the environment: an executor prints its table to stderr when it
 * is freed. Off, it costs one comparison a run. */
#ifndef LK_BACKEND_PROFILE_H
#define LK_BACKEND_PROFILE_H
#include "graph/graph.h"

typedef struct lk_profile lk_profile;
lk_profile *lk_profile_new(int n_steps);                       /* NULL unless LK_PROFILE is set and not 0 */
/* Seconds: of the wall, or with one thread of that thread alone, which other programs of the machine disturb less. */
double lk_profile_clock(const lk_pool *);
void lk_profile_add(lk_profile *, int step, double seconds);
void lk_profile_run(lk_profile *);                             /* one more run is complete */
/* What step i is: the table adds up by `kind` and shows the dearest single steps with `text`. */
typedef struct { const char *kind; int64_t flops, bytes; int node; char *text; } lk_profile_step;
/* The table into `text`: milliseconds a run, share, GFLOP/s, GB/s; means over all runs but the first. */
void lk_profile_text(const lk_profile *, const lk_profile_step *, lk_buf *text);
void lk_profile_free(lk_profile *);
#endif

/* identity_summary: what id_loss_weight_sweep's arms are compared by, beyond summary.h: the named contrast, gains with the witness beside the judge, costs,
 * and figures over the weight. */
#ifndef LK_IDENTITY_SUMMARY_H
#define LK_IDENTITY_SUMMARY_H
#include "experiments/common/summary.h"

/* id_judge of arm `to` minus arm `from`: a sentence with n, interval and exact p; also /inexact primary.*. */
lk_err lk_identity_primary(const lk_arms *, const char *from, const char *to, char **sentence);
/* Table "gains": each arm against "none", the ID adapter against the base, aligned against plain, naive against accurate, the pixel control against the people it began as: judge,
 * witness, CLIP-T, diversity, background, copying. Holm over the judge's p values. A judge's gain is marked as suspect where
 * the witness's is not above 0, or where the judge names the right person among 40 in most pictures and the witness does not. After lk_summary_table. */
lk_err lk_identity_gains(const lk_arms *, const char *note);
/* Memory and time of a training step against K, as ratios to K = 1, beside the published growth. Says so where the sweep has no such arms. */
lk_err lk_identity_cost(const lk_arms *, char **sentence);
/* Tables "kinds": adapter kinds side by side (likeness, prompt, diversity, cost, bytes), where a sweep has more than one; "canvases": faces on wide canvases. */
lk_err lk_identity_kinds(const lk_arms *);
lk_err lk_identity_canvas_table(const lk_arms *);
/* id_judge, witness, CLIP-T and diversity over the weight, a line a form; likeness against prompt following; cost against K. */
lk_err lk_identity_figures(const lk_arms *);
#endif

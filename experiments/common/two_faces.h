/* two_faces: pictures twice as wide as the model was trained on, 128 x 64, composed of two people's photos. Models put faces where there is room for
 * them and repeat the person they were taught; the detector's count is the score.
 *
 * Two questions. Edited: a canvas of a test photo beside a stranger's, noised half way and denoised under the person's plain prompt: two faces went in, how
 * many come out, and does the stranger stay one? Drawn: the same prompt, which names one person, from pure noise on the wide canvas: how many faces? */
#ifndef LK_TWO_FACES_H
#define LK_TWO_FACES_H
#include "experiments/common/trial.h"

/* Finals: faces_edited, duplicates_edited (share of canvases with more than two), lost_edited (with fewer), leak (id_judge of the stranger's half: 0 a
 * stranger, 1 the person), faces_drawn, duplicates_drawn (share with more than one). A file canvases.png beside samples.png: edited above drawn. The
 * sampler must be one of two frames across, made as the trial's own is; person prompts with the token or without as the trial has it. Setting read: canvases. */
lk_err lk_two_faces(lk_trial *, lk_sampler *wide);
/* The same count on the composed canvases as they are: finals faces_edited, duplicates_edited, lost_edited, leak. What the detector itself can do. */
lk_err lk_two_faces_composed(lk_trial *);
#endif

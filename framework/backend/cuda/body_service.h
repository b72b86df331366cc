/* Sinusoids, rotary tables and embedding, random numbers, EMA and AdamW: one thread an element (a pair, a Philox block).
 * Scalars that change from step to step (seed, step, learning rate) are read where they lie, on the device. */
#ifndef LK_CUDA_BODY_SERVICE_H
#define LK_CUDA_BODY_SERVICE_H
#include "backend/cuda/phase.h"
#include "base/philox.h"

typedef struct { float *out; const float *t; int64_t n, dim; int cos_first; double shift, scale, period; } lk_embed_args;
LK_BODY void lk_body_timestep_embed(lk_block *b, const lk_embed_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n * a->dim) {
            int64_t half = a->dim / 2, at = i % a->dim, k = at % half;
            double freq = lk_exp_d(-lk_log_d(a->period) * (double)k / ((double)half - a->shift)), angle = (double)a->t[i / a->dim] * a->scale * freq;
            int cosine = (at >= half) != a->cos_first;
            a->out[i] = at >= 2 * half ? 0.0f : cosine ? (float)lk_cos_d(angle) : (float)lk_sin_d(angle);
        }
    LK_END
}
typedef struct { float *out; const float *ids; int64_t tokens, width; int n; int64_t dims[4]; double theta; } lk_table_args;
LK_BODY void lk_body_rope_table(lk_block *b, const lk_table_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->tokens * a->width) {
            int64_t k = i % a->width; int axis = 0;
            while (k >= a->dims[axis] / 2) k -= a->dims[axis++] / 2;
            double angle = (double)a->ids[i / a->width * a->n + axis] * lk_pow_d(a->theta, -2.0 * (double)k / (double)a->dims[axis]);
            a->out[i] = (float)lk_cos_d(angle);
            a->out[a->tokens * a->width + i] = (float)lk_sin_d(angle);
        }
    LK_END
}
typedef struct { float *out; const float *x, *cosine, *sine; int64_t n, tokens, heads, pairs; } lk_rope_args;   /* n: pairs in all */
LK_BODY void lk_body_rope(lk_block *b, const lk_rope_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) {
            int64_t at = i / (a->pairs * a->heads) % a->tokens * a->pairs + i % a->pairs;
            float x0 = a->x[2 * i], x1 = a->x[2 * i + 1], c = a->cosine[at], s = a->sine[at];
            a->out[2 * i] = x0 * c - x1 * s;
            a->out[2 * i + 1] = x0 * s + x1 * c;
        }
    LK_END
}

/* name: FNV-1a 64 of the stream's name; the key mixes it with the seed as lk_stream_key does. */
typedef struct { float *out; const int64_t *seed, *step, *samples; uint64_t name; int64_t n_samples, each, blocks; int normal; } lk_random_args;
LK_BODY uint64_t lk_key_of(uint64_t h, uint64_t seed) {
    h ^= seed * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    return h ^ (h >> 31);
}
LK_BODY void lk_body_random(lk_block *b, const lk_random_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n_samples * a->blocks) {
            int64_t sample = i / a->blocks, block = i % a->blocks;
            uint32_t w[4]; float v[4];
            lk_philox_words(lk_key_of(a->name, (uint64_t)*a->seed), (uint64_t)*a->step, (uint32_t)a->samples[sample], (uint64_t)block, w);
            for (int k = 0; k < 4; k += 2) {
                v[k] = a->normal ? lk_normal_even(w[k], w[k + 1]) : lk_word_uniform(w[k]);
                v[k + 1] = a->normal ? lk_normal_odd(w[k], w[k + 1]) : lk_word_uniform(w[k + 1]);
            }
            for (int k = 0; k < 4 && 4 * block + k < a->each; k++) a->out[sample * a->each + 4 * block + k] = v[k];
        }
    LK_END
}

typedef struct { float *average; const float *value, *decay; int64_t n; } lk_ema_args;
LK_BODY void lk_body_ema(lk_block *b, const lk_ema_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) { float rest = 1.0f - *a->decay, old = a->average[i]; a->average[i] = old + rest * (a->value[i] - old); }
    LK_END
}
typedef struct { float *p, *m, *v; const float *g, *lr, *bc1, *bc2; int64_t n; float b1, rest1, b2, rest2, eps, decay; } lk_adamw_args;
LK_BODY void lk_body_adamw(lk_block *b, const lk_adamw_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) {
            float lr = *a->lr, keep = 1.0f - lr * a->decay, g = a->g[i];
            float m = a->b1 * a->m[i] + a->rest1 * g, v = a->b2 * a->v[i] + a->rest2 * (g * g);
            a->m[i] = m;
            a->v[i] = v;
            a->p[i] = a->p[i] * keep - lr * ((m / *a->bc1) / (lk_sqrtf(v / *a->bc2) + a->eps));
        }
    LK_END
}
#endif

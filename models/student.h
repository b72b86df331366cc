/* student: the zoo's few-step student (models/student): a LoRA of the base with classifier-free guidance baked in. It is sampled with
 * LK_STUDENT_STEPS DDIM steps, trailing timesteps, eta 0, guidance 1, as the base predicts (v). Trainer: experiments/zoo/student.c. It lies
 * beside the zoo, not in it, so that experiments which do not use it keep their identities. */
#ifndef LK_STUDENT_H
#define LK_STUDENT_H
#include "models/zoo.h"

enum { LK_STUDENT_STEPS = 4, LK_STUDENT_RANK = 16 };
#define LK_STUDENT_PATH "models/student/adapter.safetensors"
/* The student's adapter, as lk_adapter_new wants it: attach it to a net, then load. Freed by lk_adapter_free. prefix: of its params, to keep
 * it apart from other adapters ("student/"). A missing file is an error that says how to make it. */
lk_err lk_student_adapter(const char *path, const char *prefix, lk_adapter **out);
/* After building: values into the executor. */
lk_err lk_student_load(lk_adapter *, lk_exec *, const char *path);
/* The base's UNet weights with the student merged in, into every WEIGHT param of `to` under `param_prefix` ("student/"): W + s B A in binary32.
 * The params are copied (lk_weights_set), not bound. */
lk_err lk_student_merge(const lk_zoo *, const char *path, lk_exec *to, const char *param_prefix);
/* PEFT's layout, values as F16 (rounded to nearest even). */
lk_err lk_student_save(lk_adapter *, lk_exec *, const char *path);
#endif

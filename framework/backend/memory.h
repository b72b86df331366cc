/* How much memory a run may take: what the machine has free, or less where a cgroup says so. */
#ifndef LK_BACKEND_MEMORY_H
#define LK_BACKEND_MEMORY_H
#include "base/base.h"
/* Bytes; *who names the smaller of the two for messages ("the machine", "its cgroup"). INT64_MAX where nothing is known. */
int64_t lk_memory_available(const char **who);
/* "2G", "800M", "1.5G", or bytes; G and M are 2^30 and 2^20. */
lk_err lk_memory_parse(const char *text, int64_t *bytes);

/* ---- the limit of a process (mem= of an experiment): what all its executors on the host may hold together ------------------- */
/* Before anything runs; children inherit it. bytes 0: none. one: what a single executor keeps to by recomputing, 0: what is left. */
void    lk_memory_limit(int64_t bytes, int64_t one);
int64_t lk_memory_limit_is(void);              /* 0: none */
int64_t lk_memory_limit_left(void);            /* INT64_MAX: none */
int64_t lk_memory_limit_one(void);             /* INT64_MAX: none */
void    lk_memory_hold(int64_t bytes);         /* an executor's, on making; negative when it is freed */
#endif

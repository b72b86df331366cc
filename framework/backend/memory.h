/* How much memory a run may take: what the machine has free, or less where a cgroup says so. */
#ifndef LK_BACKEND_MEMORY_H
#define LK_BACKEND_MEMORY_H
#include <stdint.h>
/* Bytes; *who names the smaller of the two for messages ("the machine", "its cgroup"). INT64_MAX where nothing is known. */
int64_t lk_memory_available(const char **who);
#endif

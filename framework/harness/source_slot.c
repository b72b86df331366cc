/* The place in a linked program where its source id is written after linking (source_id.c). A file of its own,
 * so that no compiler knows the value where it is read. */
extern char lk_source_slot[];
char lk_source_slot[] = "LIKENESS-SOURCE-ID:0000000000000000000000000000000000000000000000000000000000000000";

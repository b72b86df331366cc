/* Files of several models: trainers write a denoiser and its text encoders into one. A module's component is told by the leading part of its key,
 * diffusers' ("text_encoder_2.") or kohya's ("lora_te2_"); PEFT's keys tell none. Kohya's "unet" is any denoiser, so unet and transformer mean
 * each other where a file has not both. */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

static const char *const known[] = { "unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3" };
enum { KNOWN = sizeof known / sizeof *known };
_Static_assert((int)KNOWN < (int)LK_LORA_COMPONENTS, "a list has room for all and for \"\"");

const char *lk_lora_component_of(const char *key, const char **rest) {
    for (int i = 0; i < KNOWN; i++) {
        size_t n = strlen(known[i]);
        if (!strncmp(key, known[i], n) && key[n] == '.') { *rest = key + n + 1; return known[i]; }
    }
    *rest = key;
    return lk_lora_kohya_component(key) ? lk_lora_kohya_component(key) : "";
}

lk_err lk_lora_component_named(const char *name, const char **out) {
    for (int i = 0; i < KNOWN; i++) if (!strcmp(known[i], name)) { *out = known[i]; return LK_OK; }
    return lk_error(LK_EINPUT, "component '%s': expected unet, transformer, text_encoder, text_encoder_2 or text_encoder_3; the nearest is %s", name, known[lk_nearest(name, known, KNOWN)]);
}

bool lk_lora_encodes_text(const char *component) { return lk_starts(component, "text_encoder"); }

/* ---- lists ------------------------------------------------------------------------------------------------------------------ */

static void count_in(lk_lora_component *list, int *n, const char *name) {
    int i = 0;
    while (i < *n && strcmp(list[i].name, name)) i++;
    if (i == LK_LORA_COMPONENTS) return;                       /* more names than there are */
    if (i == *n) list[(*n)++] = (lk_lora_component){ .name = name };
    list[i].modules++;
}
static int count_entries(const lk_lora_entries *f, lk_lora_component *list) {
    int n = 0;
    for (int i = 0; i < f->n; i++) count_in(list, &n, f->e[i].component);
    return n;
}
int lk_lora_file_components(const lk_lora_file *f, lk_lora_component list[LK_LORA_COMPONENTS]) {
    int n = 0;
    for (int i = 0; i < f->n; i++) count_in(list, &n, lk_lora_part_component(f, &f->part[i]));
    return n;
}
const char *lk_lora_components_text(lk_arena *arena, const lk_lora_component *list, int n) {
    const char *text = "";
    for (int i = 0; i < n; i++) text = lk_fmt(arena, "%s%s%d module%s of %s", text, i ? ", " : "", list[i].modules, list[i].modules == 1 ? "" : "s", list[i].name[0] ? list[i].name : "no named component");
    return text;
}

const char *lk_lora_part_component(const lk_lora_file *f, const lk_lora_part *p) { return p->component ? p->component : f->component; }

/* Which of the list the asked one means: itself, the other denoiser, or what tells no component; NULL: none. */
static const char *meant(const lk_lora_component *list, int n, const char *asked) {
    const char *other = !strcmp(asked, "unet") ? "transformer" : !strcmp(asked, "transformer") ? "unet" : NULL, *found = NULL;
    for (int i = 0; i < n; i++) {
        if (!strcmp(list[i].name, asked)) return list[i].name;
        if (!list[i].name[0] || (other && !strcmp(list[i].name, other))) found = list[i].name;
    }
    return found;
}

/* ---- one of several ----------------------------------------------------------------------------------------------------------- */

lk_err lk_lora_keep_component(lk_lora_entries *f, const char *asked) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = count_entries(f, list), kept = 0;
    const char *mine = n ? meant(list, n, asked) : asked;
    if (!mine) return lk_error(LK_EINPUT, "%s: has no modules of %s; it has %s", f->path, asked, lk_lora_components_text(f->arena, list, n));
    for (int i = 0; i < f->n; i++) if (!strcmp(f->e[i].component, mine)) f->e[kept++] = f->e[i];
    f->n = kept;
    return LK_OK;
}

lk_err lk_lora_one_component(const lk_lora_entries *f) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = count_entries(f, list);
    return n < 2 ? LK_OK : lk_error(LK_EINPUT, "%s: is of several models: %s; say which component is meant", f->path, lk_lora_components_text(f->arena, list, n));
}

lk_err lk_lora_same_component(const lk_lora_file *f, const char *what) {
    lk_lora_component list[LK_LORA_COMPONENTS];
    int n = lk_lora_file_components(f, list);
    return n < 2 ? LK_OK : lk_error(LK_EINPUT, "%s: is of several models: %s; %s", f->path, lk_lora_components_text(f->arena, list, n), what);
}

lk_err lk_adapter_components(const char *path, lk_lora_component list[LK_LORA_COMPONENTS], int *n) {
    lk_lora_entries f;
    LK_TRY(lk_lora_entries_open(path, NULL, &f));
    *n = count_entries(&f, list);
    lk_lora_entries_close(&f);
    return LK_OK;
}

/* An arm's word. */
#include "experiments/common/identity_trial.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[LK_KINDS] = {"lora", "dora", "full", "id"};
const char *lk_adapter_kind_word(lk_adapter_kind k) { return kinds[k]; }
bool lk_id_arm_terms(const lk_id_arm *a) {
    for (int i = 0; i < LK_TERMS; i++) if (a->term[i] > 0) return true;
    return false;
}
bool lk_id_arm_plain(const lk_id_arm *a) { return a->none && !lk_id_arm_terms(a); }

static bool number(const char **s, double *out) {
    char *end;
    *out = strtod(*s, &end);
    bool good = end != *s && *out > 0 && isfinite(*out);
    *s = end;
    return good;
}
/* What follows a '+'. */
static bool term(const char **s, lk_id_arm *a) {
    if (lk_starts(*s, "al")) { a->aligned = true; *s += 2; return !a->none; }
    for (int i = 0; i < LK_TERMS; i++) {
        const char *word = lk_term_word((lk_term)i);
        if (!lk_starts(*s, word)) continue;
        *s += strlen(word);
        return a->term[i] == 0 && number(s, &a->term[i]);
    }
    return false;
}
static bool kind(const char **s, lk_id_arm *a) {
    const char *colon = strchr(*s, ':');
    if (!colon) return true;
    for (int i = 0; i < LK_KINDS; i++)
        if (strlen(kinds[i]) == (size_t)(colon - *s) && lk_starts(*s, kinds[i])) { a->kind = (lk_adapter_kind)i; *s = colon + 1; return true; }
    return false;
}
static bool parse(const char *s, lk_id_arm *a) {
    if (!kind(&s, a)) return false;
    if (lk_starts(s, "none")) { a->none = true; s += 4; }
    else if (lk_starts(s, "acc")) { a->form = LK_ID_ACCURATE; s += 3; }
    else if (lk_starts(s, "naive")) { a->form = LK_ID_NAIVE; s += 5; }
    else return false;
    if (!a->none && !number(&s, &a->weight)) return false;
    while (*s == '+') { s++; if (!term(&s, a)) return false; }
    if (*s == 'k') {
        char *end;
        a->through = (int)strtol(s + 1, &end, 10);
        if (a->none || a->form == LK_ID_NAIVE || end == s + 1) return false;
        s = end;
    }
    if (a->form == LK_ID_NAIVE && !a->none && a->aligned) return false;
    return !*s && (a->kind != LK_KIND_ID || lk_id_arm_plain(a));
}
lk_err lk_id_arm_parse(const char *word, lk_id_arm *a) {
    *a = (lk_id_arm){.through = 1};
    if (parse(word, a)) return LK_OK;
    return lk_error(LK_EINPUT, "id=%s: expected none, or acc or naive and a weight above 0; then +al (accurate only), +term weight (perc, vgg, lpips, clip, prior, mask, tv), kN for N denoising "
                    "steps (accurate only); before it lora:, dora:, full: or, with none alone, id: as in acc0.25, acc1+al, acc1k4, naive1, none+mask1, dora:acc1, id:none", word);
}

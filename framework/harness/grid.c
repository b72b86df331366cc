/* From an experiment, a profile and set= to points and their identities.
 *
 * An identity is the SHA-256 of this text (config_id: without the source line):
 *     likeness run 1
 *     experiment NAME
 *     schema N             of the settings, where it is past 1
 *     numerics VERSION
 *     tier exact
 *     source HEX
 *     seed N
 *     config, then key=value lines sorted by key: axes the point has, every param, control; reals as C hexadecimal
 *     inputs, then name=HEX lines: SHA-256 of the contents, by relative path
 * The profile is no part of it: the same point in two profiles is one run. */
#include "harness/internal.h"
#include <stdlib.h>
#include <string.h>

/* ---- keys ---------------------------------------------------------------------------------------------------- */
static int by_name(const void *a, const void *b) { return strcmp(((const grid_key *)a)->name, ((const grid_key *)b)->name); }
static grid_key *find_key(grid *g, const char *name) {
    for (int i = 0; i < g->n_keys; i++) if (!strcmp(g->keys[i].name, name)) return &g->keys[i];
    return NULL;
}
static bool has(const char *const *list, int n, const char *word) {
    for (int i = 0; i < n; i++) if (!strcmp(list[i], word)) return true;
    return false;
}
/* Makes one value of a key canonical, then checks it. */
static lk_err check_value(grid *g, const grid_key *k, const char **value) {
    char what[300];
    snprintf(what, sizeof what, "value of %s", k->name);
    const char *given = *value;
    lk_err e = value_canonical(g->arena, k->kind, given, k->name, value);
    bool openly = !e && k->open && **value != '-';
    if (k->n_allowed && !openly && (e || !has(k->allowed, k->n_allowed, *value))) { lk_err_free(e); return not_allowed(what, given, k->allowed, k->n_allowed); }
    if (e) return e;
    double x = strtod(*value, NULL);
    if (k->kind != LK_TEXT && (k->lo || k->hi) && !(x >= k->lo && x <= k->hi))
        return lk_error(LK_EINPUT, "%s=%s is out of range: %g to %g%s%s", k->name, *value, k->lo, k->hi, *k->unit ? " " : "", k->unit);
    return LK_OK;
}
static lk_err set_values(grid *g, grid_key *k, const char *text) {
    if (k->kind == LK_TEXT && !k->is_axis && !*text) {       /* a text param may be empty */
        static const char *empty[] = {""};
        k->n = 1; k->values = lk_alloc(g->arena, sizeof(char *)); k->values[0] = empty[0];
        return LK_OK;
    }
    LK_TRY(values_parse(g->arena, text, k->name, &k->n, &k->values));
    for (int i = 0; i < k->n; i++) LK_TRY(check_value(g, k, &k->values[i]));
    return LK_OK;
}
static const char *in_profile(const char *const of[LK_PROFILES], lk_profile p, const char *otherwise) { return of[p] ? of[p] : otherwise; }
static lk_err add_keys(grid *g) {
    const lk_experiment *x = g->exp;
    int n = 0;
    for (const lk_axis *a = x->axes; a && a->name; a++) n++;
    for (const lk_setting *p = x->settings; p && p->name; p++) n++;
    g->keys = lk_alloc(g->arena, sizeof *g->keys * (size_t)(n + 1));
    for (const lk_axis *a = x->axes; a && a->name; a++) {
        grid_key *k = &g->keys[g->n_keys++];
        *k = (grid_key){.name = a->name, .is_axis = true, .unit = "", .about = a->about ? a->about : "", .open = a->open};
        LK_TRY(values_parse(g->arena, a->values, a->name, &k->n_allowed, &k->allowed));
        k->kind = values_kind(k->n_allowed, k->allowed);
        for (int i = 0; i < k->n_allowed; i++) LK_TRY(value_canonical(g->arena, k->kind, k->allowed[i], k->name, &k->allowed[i]));
        LK_TRY(set_values(g, k, in_profile(a->in, g->profile, a->values)));
    }
    for (const lk_setting *p = x->settings; p && p->name; p++) {
        grid_key *k = &g->keys[g->n_keys++];
        *k = (grid_key){.name = p->name, .kind = p->kind, .unit = p->unit ? p->unit : "", .about = p->about ? p->about : "", .lo = p->lo, .hi = p->hi};
        if (p->choices) LK_TRY(values_parse(g->arena, p->choices, p->name, &k->n_allowed, &k->allowed));
        const char *text = in_profile(p->value, g->profile, p->value[LK_DEFAULT]);
        if (!text) return lk_error(LK_ESTATE, "setting %s of %s has no value in the default profile", p->name, x->name);
        LK_TRY(set_values(g, k, text));
    }
    qsort(g->keys, (size_t)g->n_keys, sizeof *g->keys, by_name);
    for (int i = 1; i < g->n_keys; i++)
        if (!strcmp(g->keys[i - 1].name, g->keys[i].name)) return lk_error(LK_ESTATE, "%s has two keys named %s", x->name, g->keys[i].name);
    return LK_OK;
}

/* ---- set= and controls ------------------------------------------------------------------------------------------ */
static lk_err set_controls(grid *g, const char *text) {
    const lk_control_row *all = g->exp->controls;
    const char *names[64]; int n = 0, m; const char **chosen;
    names[n++] = "none";
    for (const lk_control_row *c = all; c && c->name && n < 64; c++) names[n++] = c->name;
    g->controls = lk_alloc(g->arena, sizeof *g->controls * 64);
    g->n_controls = 0;
    g->with_grid = !text;
    if (!text) { for (int i = 1; i < n; i++) g->controls[g->n_controls++] = names[i]; return LK_OK; }
    LK_TRY(values_parse(g->arena, text, "control", &m, &chosen));
    for (int i = 0; i < m; i++) {
        if (!has(names, n, chosen[i])) return not_allowed("control", chosen[i], names, n);
        if (strcmp(chosen[i], "none")) g->controls[g->n_controls++] = chosen[i]; else g->with_grid = true;
    }
    return LK_OK;
}
static lk_err unknown_key(const grid *g, const char *name) {
    const char *names[256]; int n = 0;
    for (int i = 0; i < g->n_keys && n < 255; i++) names[n++] = g->keys[i].name;
    if (g->exp->controls) names[n++] = "control";
    char what[300];
    snprintf(what, sizeof what, "key of %s", g->exp->name);
    return not_allowed(what, name, names, n);
}
/* Values written for settings of another schema would be taken for something they never meant. */
int grid_schema(const lk_experiment *x) { return x->schema > 1 ? x->schema : 1; }
lk_err schema_is(const lk_experiment *x, int64_t written, const char *where) {
    if (written == grid_schema(x)) return LK_OK;
    return lk_error(LK_EINPUT, "%s: settings of schema %lld, but %s has schema %d, in which a key means something else: read about it at the head of experiments/%s.c and write the values anew",
                    where, (long long)written, x->name, grid_schema(x), x->name);
}
static lk_err same_schema(const grid *g, const char *text) {
    char *end;
    long written = strtol(text, &end, 10);
    if (!*text || *end || written < 1) return lk_error(LK_EINPUT, "set=\"%s\": schema=%s is not a whole number from 1 on", g->set, text);
    return schema_is(g->exp, written, "set=");
}
static lk_err apply_set(grid *g) {
    char *text = lk_strdup(g->arena, g->set), *save = NULL;
    lk_buf seen = {0};
    lk_err e = LK_OK;
    lk_buf_fmt(&seen, " ");
    for (char *item = strtok_r(text, " \t", &save); item && !e; item = strtok_r(NULL, " \t", &save)) {
        char *equals = strchr(item, '='), probe[300];
        if (!equals || equals == item) { e = lk_error(LK_EINPUT, "set=\"%s\": \"%s\" is not key=values", g->set, item); break; }
        *equals = 0;
        snprintf(probe, sizeof probe, " %.250s ", item);
        if (strstr(seen.s, probe)) { e = lk_error(LK_EINPUT, "set=\"%s\": %s is given twice", g->set, item); break; }
        lk_buf_fmt(&seen, "%s ", item);
        grid_key *k = find_key(g, item);
        if (!strcmp(item, "schema") && !k) e = same_schema(g, equals + 1);
        else if (!strcmp(item, "control") && g->exp->controls) e = set_controls(g, equals + 1);
        else e = k ? set_values(g, k, equals + 1) : unknown_key(g, item);
    }
    free(seen.s);
    return e;
}

/* ---- points ------------------------------------------------------------------------------------------------------- */
static bool in_list(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *s = list; *s; s += strcspn(s, ","), s += *s == ',') {
        while (*s == ' ') s++;
        if (!strncmp(s, word, n) && (!s[n] || s[n] == ',' || s[n] == ' ')) return true;
    }
    return false;
}
static void order_axes(grid *g) {
    g->axes = lk_alloc(g->arena, sizeof *g->axes * (size_t)(g->n_keys + 1));
    for (const lk_axis *a = g->exp->axes; a && a->name; a++) g->axes[g->n_axes++] = find_key(g, a->name);
    for (int i = 0; i < g->n_keys; i++) if (!g->keys[i].is_axis && g->keys[i].n > 1) g->axes[g->n_axes++] = &g->keys[i];
}
static bool varies(const grid_key *k, const lk_control_row *c) { return !c || !k->is_axis || in_list(c->axes, k->name); }
/* One point: the axis values are digits of `index`, the last axis fastest. */
static void make_point(grid *g, grid_point *p, const lk_control_row *c, int64_t index) {
    const char **value = lk_alloc(g->arena, sizeof *value * (size_t)(g->n_axes + 1));
    for (int i = g->n_axes - 1; i >= 0; i--) {
        if (!varies(g->axes[i], c)) continue;
        value[i] = g->axes[i]->values[index % g->axes[i]->n];
        index /= g->axes[i]->n;
    }
    lk_buf label = {0};
    if (c) lk_buf_fmt(&label, "control=%s", c->name);
    for (int i = 0; i < g->n_axes; i++) if (value[i]) lk_buf_fmt(&label, "%s%s=%s", label.n ? " " : "", g->axes[i]->name, value[i]);
    p->control = c ? c->name : NULL;
    p->label = lk_strdup(g->arena, label.n ? label.s : "the only point");
    free(label.s);
    p->at = lk_alloc(g->arena, sizeof *p->at * (size_t)(g->n_keys + 1));
    for (int k = 0; k < g->n_keys; k++) {
        const char *text = g->keys[k].is_axis ? NULL : g->keys[k].values[0];
        for (int i = 0; i < g->n_axes; i++) if (g->axes[i] == &g->keys[k]) text = value[i];
        if (text) p->at[p->n++] = (grid_entry){&g->keys[k], text};
    }
}
static int64_t points_of(const grid *g, const lk_control_row *c) {
    int64_t n = 1;
    for (int i = 0; i < g->n_axes; i++) if (varies(g->axes[i], c) && n <= 1000000) n *= g->axes[i]->n;
    return n;
}
static const lk_control_row *control_named(const lk_experiment *x, const char *name) {
    for (const lk_control_row *c = x->controls; c && c->name; c++) if (!strcmp(c->name, name)) return c;
    return NULL;
}
static lk_err make_points(grid *g) {
    int64_t total = g->with_grid ? points_of(g, NULL) : 0;
    for (int i = 0; i < g->n_controls; i++) total += points_of(g, control_named(g->exp, g->controls[i]));
    if (total > 1000000) return lk_error(LK_EINPUT, "%s has more than a million points; name fewer values", g->exp->name);
    g->points = lk_alloc(g->arena, sizeof *g->points * (size_t)(total + 1));
    for (int i = 0; i < g->n_controls; i++) {
        const lk_control_row *c = control_named(g->exp, g->controls[i]);
        for (int64_t k = 0, m = points_of(g, c); k < m; k++) make_point(g, &g->points[g->n++], c, k);
    }
    for (int64_t k = 0, m = g->with_grid ? points_of(g, NULL) : 0; k < m; k++) make_point(g, &g->points[g->n++], NULL, k);
    return LK_OK;
}
static void name_sweep(grid *g) {
    char hex[65] = "";
    if (*g->set) {
        lk_sha256 s;
        lk_sha256_init(&s);
        for (int k = 0; k < g->n_keys; k++) {
            lk_sha256_add(&s, g->keys[k].name, strlen(g->keys[k].name) + 1);
            for (int i = 0; i < g->keys[k].n; i++) lk_sha256_add(&s, g->keys[k].values[i], strlen(g->keys[k].values[i]) + 1);
        }
        for (int i = 0; i < g->n_controls; i++) lk_sha256_add(&s, g->controls[i], strlen(g->controls[i]) + 1);
        lk_sha256_add(&s, g->with_grid ? "grid" : "", 4 * g->with_grid);
        lk_sha256_hex(&s, hex);
    }
    const char *root = getenv("LK_RESULTS");
    g->results = lk_strdup(g->arena, root && *root ? root : "results");
    g->name = lk_fmt(g->arena, "%s-%s%s%.8s", g->exp->name, profile_names[g->profile], *hex ? "-" : "", hex);
    g->dir = lk_fmt(g->arena, "%s/sweeps/%s", g->results, g->name);
}
lk_err grid_new(const lk_experiment *x, lk_profile profile, const char *set, grid **out) {
    lk_arena *arena = lk_arena_new();
    grid *g = *out = lk_alloc(arena, sizeof *g);
    *g = (grid){.exp = x, .profile = profile, .arena = arena, .set = lk_strdup(arena, set ? set : "")};
    lk_err e = add_keys(g);
    if (!e) e = set_controls(g, NULL);
    if (!e && x->controls && x->controls_in[profile]) { e = set_controls(g, x->controls_in[profile]); g->with_grid = true; }
    if (!e) e = apply_set(g);
    if (!e) { order_axes(g); e = make_points(g); }
    if (!e && !g->n) e = lk_error(LK_EINPUT, "%s: no point is left", x->name);
    if (e) { grid_free(g); *out = NULL; return e; }
    name_sweep(g);
    return LK_OK;
}
void grid_free(grid *g) { if (g) lk_arena_free(g->arena); }

/* ---- identities --------------------------------------------------------------------------------------------------------- */
static const char *resolve(grid *g, grid_point *p) {
    lk_buf b = {0};
    bool control_written = false;
    const char *control = p->control ? p->control : "none";
    for (int i = 0; i < p->n; i++) {
        const grid_key *k = p->at[i].key;
        if (!control_written && strcmp("control", k->name) < 0) { lk_buf_fmt(&b, "control=%s\n", control); control_written = true; }
        if (k->is_axis && !strcmp(k->name, "seed")) { p->seed = strtoull(p->at[i].text, NULL, 10); continue; }
        lk_buf_fmt(&b, "%s=%s\n", k->name, value_exact(g->arena, k->kind, p->at[i].text));
    }
    if (!control_written) lk_buf_fmt(&b, "control=%s\n", control);
    char *text = lk_strdup(g->arena, b.s);
    free(b.s);
    return text;
}
static void identity(const grid *g, const grid_point *p, bool with_source, char hex[65]) {
    lk_buf b = {0};
    lk_buf_fmt(&b, "%s\nexperiment %s\n", HARNESS_SCHEMA, g->exp->name);
    if (grid_schema(g->exp) > 1) lk_buf_fmt(&b, "schema %d\n", grid_schema(g->exp));
    lk_buf_fmt(&b, "numerics %d\ntier %s\n", LK_NUMERICS_VERSION, HARNESS_TIER);
    if (with_source) lk_buf_fmt(&b, "source %s\n", g->source_id);
    lk_buf_fmt(&b, "seed %llu\nconfig\n%sinputs\n", (unsigned long long)p->seed, p->resolved);
    for (int i = 0; i < g->n_inputs; i++) lk_buf_fmt(&b, "%s=%s\n", g->inputs[i].name, g->inputs[i].hash);
    lk_sha256_of(b.s, b.n, hex);
    free(b.s);
}
lk_err grid_identify(grid *g, const char *source_id) {
    g->source_id = lk_strdup(g->arena, source_id);
    LK_TRY(inputs_hash(g));
    for (int i = 0; i < g->n; i++) {
        grid_point *p = &g->points[i];
        p->resolved = resolve(g, p);
        identity(g, p, true, p->run_id);
        identity(g, p, false, p->config_id);
    }
    return LK_OK;
}

/* ---- asking a point -------------------------------------------------------------------------------------------------------- */
const grid_entry *point_entry(const grid_point *p, const char *key) {
    for (int i = 0; i < p->n; i++) if (!strcmp(p->at[i].key->name, key)) return &p->at[i];
    return NULL;
}
const char *point_value(const grid_point *p, const char *key) {
    if (!strcmp(key, "control")) return p->control ? p->control : "none";
    const grid_entry *e = point_entry(p, key);
    return e ? e->text : NULL;
}
bool point_matches(const grid_point *p, const char *text, lk_err *error) {
    char *copy = lk_xstrdup(text), *save = NULL;
    bool control_named = false, same = true;
    for (char *item = strtok_r(copy, " ", &save); item; item = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(item, '=');
        if (!equals) { if (error && !*error) *error = lk_error(LK_ESTATE, "\"%s\": \"%s\" is not key=value", text, item); same = false; break; }
        *equals = 0;
        control_named |= !strcmp(item, "control");
        const char *value = point_value(p, item);
        if (!value || strcmp(value, equals + 1)) same = false;
    }
    free(copy);
    return same && (control_named || !p->control);
}

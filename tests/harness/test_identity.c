/* Identities, source ids and the syntax of values. Oracle of an identity: its text written out by hand. */
#include "tests/harness/harness_tools.h"

static lk_err nothing(lk_ctx *c) { (void)c; return LK_OK; }
static const lk_axis axes[] = {{"rank", "0,1,2,4", .in = {[LK_TINY] = "1"}}, {"subject", "s08..s11", .in = {[LK_TINY] = "s08"}}, {"seed", "0..5", .in = {[LK_TINY] = "3"}, .open = true}, {0}};
static const lk_setting settings[] = {{"steps", LK_INT, "steps", {[LK_DEFAULT] = "012"}, 1, 100}, {"lr", LK_REAL, "", {[LK_DEFAULT] = "1e-1"}, 0, 1}, {"name", LK_TEXT, "", {[LK_DEFAULT] = "x"}}, {0}};
static const lk_control_row controls[] = {{"copy", "subject", ""}, {0}};
static lk_experiment experiment(void) { return (lk_experiment){.name = "probe", .question = "?", .axes = axes, .settings = settings, .controls = controls, .run = nothing}; }

static void id_of_text(const char *text, char hex[65]) { lk_sha256_of(text, strlen(text), hex); }
TEST(an_identity_is_the_digest_of_the_documented_text) {
    lk_experiment x = experiment();
    grid *g;
    char want[65];
    CHECK_OK(grid_new(&x, LK_TINY, "", &g));
    CHECK_OK(grid_identify(g, "abc"));
    CHECK(g->n == 2 && !strcmp(g->points[0].label, "control=copy subject=s08") && !strcmp(g->points[1].label, "rank=1 subject=s08 seed=3"));
    id_of_text("likeness run 1\nexperiment probe\nnumerics 1\ntier exact\nsource abc\nseed 3\nconfig\ncontrol=none\nlr=0x1.999999999999ap-4\nname=x\nrank=1\nsteps=12\nsubject=s08\ninputs\n", want);
    CHECK(!strcmp(g->points[1].run_id, want));
    id_of_text("likeness run 1\nexperiment probe\nnumerics 1\ntier exact\nseed 3\nconfig\ncontrol=none\nlr=0x1.999999999999ap-4\nname=x\nrank=1\nsteps=12\nsubject=s08\ninputs\n", want);
    CHECK(!strcmp(g->points[1].config_id, want));
    grid_free(g);
}
TEST(the_profile_and_the_way_a_number_is_written_are_no_part_of_it) {
    lk_experiment x = experiment();
    grid *a, *b, *c;
    CHECK_OK(grid_new(&x, LK_TINY, "", &a)); CHECK_OK(grid_new(&x, LK_PAPER, "rank=01 subject=s08 seed=3 lr=0.10 control=none", &b)); CHECK_OK(grid_new(&x, LK_TINY, "lr=0.11", &c));
    CHECK_OK(grid_identify(a, "s")); CHECK_OK(grid_identify(b, "s")); CHECK_OK(grid_identify(c, "s"));
    CHECK(b->n == 1 && !strcmp(a->points[1].run_id, b->points[0].run_id));
    CHECK(strcmp(a->points[1].run_id, c->points[1].run_id));
    CHECK(!strcmp(a->name, "probe-tiny") && strlen(c->name) == strlen("probe-tiny-") + 8);
    grid_free(a); grid_free(b); grid_free(c);
}
TEST(contents_of_inputs_count_and_their_place_does_not) {
    char *dirs[3], hex[3][65];
    for (int i = 0; i < 3; i++) {
        dirs[i] = lk_xfmt("%s/in%d", lk_test_dir(), i);
        char *sub = lk_xfmt("%s/deep", dirs[i]), *f = lk_xfmt("%s/a.txt", sub);
        CHECK_OK(lk_mkdirs(sub));
        CHECK_OK(lk_write_file_atomic(f, i == 2 ? "other" : "same", i == 2 ? 5 : 4));
        free(sub); free(f);
        lk_experiment x = experiment();
        lk_hashed in[] = {{"data", dirs[i]}, {0}};
        x.inputs = in;
        grid *g;
        CHECK_OK(grid_new(&x, LK_TINY, "", &g));
        CHECK_OK(grid_identify(g, "s"));
        strcpy(hex[i], g->points[0].run_id);
        grid_free(g); free(dirs[i]);
    }
    CHECK(!strcmp(hex[0], hex[1]) && strcmp(hex[0], hex[2]));
}
TEST(refusals_name_the_nearest_and_the_whole_set) {
    lk_experiment x = experiment();
    grid *g;
    const struct { const char *set, *part; } cases[] = {
        {"rnk=1", "nearest is \"rank\""}, {"rank=3", "there are: 0, 1, 2, 4"}, {"rank=1,1", "given twice"}, {"rank=4..0", "backwards"}, {"rank=1 rank=2", "given twice"}, {"rank", "not key=values"},
        {"rank=", "empty value"}, {"rank=1,,2", "empty value"}, {"steps=0", "out of range: 1 to 100 steps"}, {"steps=1.5", "not a whole number"}, {"lr=nan", "not a number"}, {"lr=2", "out of range"},
        {"control=cpy", "nearest is \"copy\""}, {"subject=s12", "nearest"}, {"seed=-1", "value of seed"}, {"seed=0..200000", "more than"}, {"=3", "not key=values"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) CHECK_FAILS(grid_new(&x, LK_DEFAULT, cases[i].set, &g), cases[i].part);
    CHECK_OK(grid_new(&x, LK_DEFAULT, "seed=7,40", &g));        /* an open axis takes other whole numbers */
    if (g) CHECK(g->n == 4 * 4 * 2 + 4);
    grid_free(g);
}
static void tokens_of(const char *text, char hex[65]) {
    lk_sha256 s;
    lk_sha256_init(&s);
    source_tokens(text, strlen(text), &s);
    lk_sha256_hex(&s, hex);
}
TEST(a_comment_keeps_the_source_id_and_a_token_changes_it) {
    const struct { const char *a, *b; bool same; } cases[] = {
        {"int x = 1; // one\n", "int x=1;", true}, {"int /* a */ x;\n\n", "int x;", true}, {"a +\\\n= b;", "a += b;", true}, {"f( a , b );", "f(a,b);", true},
        {"int x = 1;", "int x = 2;", false}, {"a + +b", "a ++b", false}, {"int xy;", "int x y;", false}, {"s = \"/* no */\";", "s = \"\";", false}, {"s = \"a  b\";", "s = \"a b\";", false},
        {"#define F(a) a\n", "#define F (a) a\n", false}, {"#define A\nB\n", "#define A B\n", false}, {"# define A 1\n", "#define   A  1 // x\n", true}, {"#include <a b.h>\n", "#include <ab.h>\n", false},
        {"c = '//';", "c = '", false}, {"x = 1e+3;", "x = 1e + 3;", false}, {"x = u8\"é\";", "x = u8 \"é\";", false}, {"a//b", "a", true}, {"a/ /b", "a//b", false}, {"\"unclosed", "\"unclose", false}};
    char a[65], b[65];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tokens_of(cases[i].a, a); tokens_of(cases[i].b, b);
        CHECK_MSG(!strcmp(a, b) == cases[i].same, "%s  and  %s", cases[i].a, cases[i].b);
    }
    char want[65];
    id_of_text("int x = 1 ; ", want);
    tokens_of("int x=1; /* one space after each */", a);
    CHECK(!strcmp(a, want));
}
TEST(the_fixture_carries_an_id_written_at_build_time) {
    char *bytes; size_t n;
    CHECK_OK(lk_read_file(FIXTURE, &bytes, &n));
    static const char head[] = "LIKENESS-SOURCE-ID:";
    bool found = false;
    for (char *s = bytes; (s = memmem(s, n - (size_t)(s - bytes), head, sizeof head - 1)); s += sizeof head)
        if (strspn(s + sizeof head - 1, "0123456789abcdef") >= 64 && strspn(s + sizeof head - 1, "0") < 64) found = true;
    CHECK(found);
    free(bytes);
}
TEST(a_sheet_holds_its_cells_and_labels) {
    lk_image cells[2] = {lk_image_new(4, 4, 1), {0}};
    memset(cells[0].px, 77, 16);
    lk_image s = lk_sheet(1, 2, cells, (const char *const[]){"r1"}, (const char *const[]){"A", "b?"}, 3);
    int of_cell = 0, black = 0;
    for (int i = 0; i < s.w * s.h; i++) { of_cell += s.px[3 * i] == 77; black += s.px[3 * i] == 0; }
    CHECK(s.c == 3 && of_cell == 12 * 12 && black > 40);
    lk_image_free(&s); lk_image_free(&cells[0]);
}
TEST(what_only_one_run_has_is_named_with_the_other) {
    lk_run *a = lk_run_new("probe", "a"), *b = lk_run_new("probe", "b");
    lk_run_final(a, "loss", 1); lk_run_final(b, "loss", 1);
    CHECK(!difference_of(a, "", b, ""));
    lk_run_final(b, "likeness", 2);
    char *ab = difference_of(a, "", b, ""), *ba = difference_of(b, "", a, "");
    CHECK(ab && !strcmp(ab, "final/likeness is missing in the first"));
    CHECK(ba && !strcmp(ba, "final/likeness is missing in the second"));
    free(ab); free(ba);
    const double row[] = {1, 0.5};
    lk_run_row(b, "train", 2, (const char *const[]){"step", "loss"}, row);
    ab = difference_of(a, "", b, "");
    CHECK_MSG(ab && lk_starts(ab, "metrics/train/") && lk_ends(ab, "is missing in the first"), "%s", ab ? ab : "none");
    free(ab);
    lk_run_free(a); lk_run_free(b);
}

/* Tables: each format against what was written by hand. */
#include "tests/lib/lk_test.h"
#include "io/io.h"

static lk_table *example(void) {
    lk_table *t = lk_table_new("Likeness by rank_r", 3, (const char *const[]){"method", "id_judge ↑", "n"});
    lk_table_row(t, (const char *const[]){"Zoë & co", "0.31 ± 0.05", "12"});
    lk_table_row(t, (const char *const[]){"rank|16", "**0.42 ± 0.03**", "-"});
    lk_table_note(t, "95% t intervals");
    return t;
}
static void same(char *got, const char *want) { CHECK_MSG(!strcmp(got, want), "got:\n%s\nwant:\n%s", got, want); free(got); }
TEST(text_is_aligned_by_characters_not_bytes) {
    lk_table *t = example();
    same(lk_table_text(t), "Likeness by rank_r\n\n"
        "method      id_judge ↑   n\n"
        "──────────────────────────\n"
        "Zoë & co   0.31 ± 0.05  12\n"
        "rank|16   0.42 ± 0.03*   -\n"
        "\n95% t intervals\n");
    lk_table_free(t);
}
TEST(markdown_escapes_bars) {
    lk_table *t = example();
    same(lk_table_markdown(t), "Likeness by rank_r\n\n"
        "| method   |      id_judge ↑ |  n |\n"
        "| --- | ---: | ---: |\n"
        "| Zoë & co |     0.31 ± 0.05 | 12 |\n"
        "| rank\\|16 | **0.42 ± 0.03** |  - |\n"
        "\n95% t intervals  \n");
    lk_table_free(t);
}
TEST(latex_escapes_everything_special) {
    lk_table *t = example();
    same(lk_table_latex(t), "\\begin{table}\n\\centering\n\\caption{Likeness by rank\\_r}\n\\begin{tabular}{lrr}\n\\toprule\n"
        "method    &     id\\_judge $\\uparrow$ &  n \\\\\n\\midrule\n"
        "Zoë \\& co &          0.31 $\\pm$ 0.05 & 12 \\\\\n"
        "rank|16   & \\textbf{0.42 $\\pm$ 0.03} &  - \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\\\[2pt] \\footnotesize 95\\% t intervals\n\\end{table}\n");
    lk_table_free(t);
}
TEST(dat_has_numbers_quoted_text_and_nan) {
    lk_table *t = example();
    same(lk_table_dat(t), "# Likeness by rank_r\n# 1:method\t2:id_judge ↑\t3:n\n\"Zoë & co\"\t\"0.31 ± 0.05\"\t12\n\"rank|16\"\t\"0.42 ± 0.03\"\tNaN\n# 95% t intervals\n");
    lk_table_free(t);
}
TEST(a_table_without_rows_is_still_one) {
    lk_table *t = lk_table_new("empty", 2, (const char *const[]){"a", "b"});
    same(lk_table_text(t), "empty\n\na  b\n────\n");
    same(lk_table_dat(t), "# empty\n# 1:a\t2:b\n");
    lk_table_free(t);
}

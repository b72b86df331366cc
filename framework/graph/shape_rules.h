/* shape_rules: the rules of shape_rules_heavy.c and what both files check inputs with. Private to graph/. */
#ifndef LK_SHAPE_RULES_H
#define LK_SHAPE_RULES_H
#include "graph/internal.h"

bool lk_want_f32(lk_graph *, const lk_node *);
bool lk_want_rank(lk_graph *, const lk_node *, int input, int lo, int hi);
bool lk_want_shape(lk_graph *, const lk_node *, int input, lk_shape);

bool lk_rule_matmul(lk_graph *, lk_node *), lk_rule_matmul_add(lk_graph *, lk_node *), lk_rule_conv2d(lk_graph *, lk_node *), lk_rule_conv2d_dx(lk_graph *, lk_node *),
     lk_rule_conv2d_dw(lk_graph *, lk_node *), lk_rule_pool(lk_graph *, lk_node *), lk_rule_max_pool2d_dx(lk_graph *, lk_node *),
     lk_rule_max_pool2d_at(lk_graph *, lk_node *), lk_rule_avg_pool2d_dx(lk_graph *, lk_node *), lk_rule_resized(lk_graph *, lk_node *),
     lk_rule_warp(lk_graph *, lk_node *), lk_rule_rows(lk_graph *, lk_node *), lk_rule_rows_dx(lk_graph *, lk_node *),
     lk_rule_norm(lk_graph *, lk_node *), lk_rule_norm_dx(lk_graph *, lk_node *), lk_rule_group_norm(lk_graph *, lk_node *),
     lk_rule_sdpa(lk_graph *, lk_node *), lk_rule_rope(lk_graph *, lk_node *), lk_rule_geglu(lk_graph *, lk_node *);
#endif

/* Tokens of an embedding, attention to them. */
#include "models/id_adapter.h"
#include <stdlib.h>
#include <string.h>

const lk_id_adapter_config lk_zoo_id_adapter = {192, 160, 96, 4};

static lk_val attend(void *ctx, const lk_net *net, lk_val q, int64_t dim, int heads) {
    const lk_id_adapter *a = ctx;
    lk_net own = lk_net_root(net->g);
    own.prefix = net->prefix;
    own.param_prefix = LK_ID_ADAPTER_PREFIX;
    lk_val k = lk_nn_linear(&own, "processor.to_k_ip", a->tokens, a->config.width, dim, false), v = lk_nn_linear(&own, "processor.to_v_ip", a->tokens, a->config.width, dim, false);
    return lk_sdpa(net->g, q, k, v, LK_NONE, (lk_sdpa_attr){ .heads = heads });
}
void lk_id_adapter_join(lk_id_adapter *a, lk_id_adapter_config c, lk_graph *g, lk_val embedding) {
    lk_net net = lk_net_root(g);
    net.param_prefix = LK_ID_ADAPTER_PREFIX;
    lk_val h = lk_gelu(g, lk_nn_linear(&net, "image_proj.proj.0", embedding, c.embedding, c.hidden, true));
    h = lk_nn_linear(&net, "image_proj.proj.2", h, c.hidden, c.tokens * c.width, true);
    h = lk_reshape(g, h, LK_SHAPE(lk_dim(g, embedding, 0), c.tokens, c.width));
    *a = (lk_id_adapter){ .config = c, .tokens = lk_nn_layer_norm(&net, "image_proj.norm", h, c.width, 1e-5, true) };
    a->guest = (lk_attention_guest){ attend, a };
}
lk_err lk_id_adapter_init(lk_exec *x, uint64_t seed) {
    static const char leaf[] = "processor.to_";
    LK_TRY(lk_weights_init(x, LK_ID_ADAPTER_PREFIX, seed, NULL));
    const lk_graph *g = lk_exec_graph(x);
    for (int i = 0; i < lk_graph_count(g); i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){ i });
        const char *at = node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT && lk_starts(node->name, LK_ID_ADAPTER_PREFIX) ? strstr(node->name, leaf) : NULL;
        if (!at) continue;
        const char *name = node->name + strlen(LK_ID_ADAPTER_PREFIX);
        char *own = lk_xfmt("%.*sto_%c.weight", (int)(at - name), name, at[strlen(leaf)]);
        lk_val source = lk_find(g, own);
        int64_t n = lk_numel(lk_shape_of(g, (lk_val){ i }));
        float *w = lk_xmalloc(sizeof *w * (size_t)n);
        lk_err e = lk_ok(source) ? lk_exec_get(x, source, w, n) : lk_error(LK_ESTATE, "%s: no weight %s in the graph to start from", node->name, own);
        if (!e) e = lk_exec_set(x, (lk_val){ i }, w, n);
        free(w); free(own);
        LK_TRY(e);
    }
    return LK_OK;
}
lk_err lk_id_adapter_load(lk_exec *x, const lk_zoo *z, const char *path) {
    lk_st *st;
    LK_TRY(lk_st_open(path, &st));
    lk_err e = lk_base_check(st, z->unet_weights);
    if (!e) e = lk_weights_set(x, st, LK_ID_ADAPTER_PREFIX, NULL);
    lk_st_close(st);
    return e;
}

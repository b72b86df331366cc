/* trunks: the feature halves of three classification networks, tapped where perceptual distances read them. Parameter names
 * are torchvision's (features.N.weight, features.N.expand3x3.bias), so its checkpoints load without a mapping.
 *
 *   VGG16           Simonyan & Zisserman 2015 (arXiv:1409.1556): after the last ReLU of each of the five stages
 *   AlexNet         Krizhevsky 2014 (arXiv:1404.5997): after each of the five ReLUs
 *   SqueezeNet 1.1  Iandola et al. 2016 (arXiv:1602.07360): first ReLU, fires 4, 7, 9, 10, 11, 12 */
#ifndef LK_TRUNKS_H
#define LK_TRUNKS_H
#include "models/nn.h"

typedef enum { LK_VGG16, LK_ALEXNET, LK_SQUEEZENET1_1, LK_TRUNKS } lk_trunk;
enum { LK_TRUNK_TAPS = 7 };
const char *lk_trunk_name(lk_trunk);                   /* "vgg16", "alexnet", "squeezenet1_1" */
int lk_trunk_taps(lk_trunk);                           /* 5, 5, 7 */
/* x [N, 3, H, W], already normalised by the caller; taps come first to last, each after its ReLU. Layers past the last tap are not built. */
void lk_trunk_features(const lk_net *, lk_trunk, lk_val x, lk_val tap[LK_TRUNK_TAPS]);
/* (x - mean) / std with ImageNet's statistics, x in [0, 1]. */
lk_val lk_imagenet_normalise(lk_graph *, lk_val x);
#endif

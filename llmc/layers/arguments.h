// arguments.h: what the layers of both backends take beside tensors and sizes.
#pragma once

struct LayernormBackward {
    bool accumulate = false;   // dweight, dbias += instead of =
    bool add_to_dinp = false;  // dinp += instead of =
};

struct Classifier {
    bool write_dlogits = false;
    float softcap = 0;  // of the logits: softcap.h; 0: none
};

template <class F> struct MatmulForward { F* pre_gelu = nullptr; };  // (N, OC)

template <class F> struct MatmulBackwardInput {
    const F* pre_gelu = nullptr;  // (N, C): inp was gelu(pre_gelu), and dinp becomes the gradient of pre_gelu
    bool accumulate = false;
};

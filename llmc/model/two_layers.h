// two_layers.h: a buffer that does not hold all layers of a model, but those two that are in use: layer l lies where layer l - 2 was. The tensors of the
// whole model are always there.
#pragma once
#include <algorithm>
#include <cstddef>
#include "tensors.h"

class TwoLayers {
    size_t first, layer, left_out;  // of elements: before the first layer, in a layer, in the layers for which there is no place

public:
    size_t elements;  // of the buffer
    TwoLayers(const ParameterList& list, int L)
        : first(list.first_of_blocks()), layer(list.stride[P_qkvw]), left_out((size_t)std::max(L - 2, 0) * layer), elements(list.elements - left_out) {}

    static int slot_of(int l) { return l % 2; }
    // Where the element of the flat parameters lies.
    size_t at(size_t element) const {
        if (element < first || left_out == 0) return element;
        const size_t in_layers = element - first;
        if (in_layers >= left_out + 2 * layer) return element - left_out;
        return first + (size_t)slot_of((int)(in_layers / layer)) * layer + in_layers % layer;
    }
};

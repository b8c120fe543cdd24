/* Evaluates the data descriptor of a data selector, and copies the selected data to the memory of
 * an allocator. */

#ifndef OCTOPUS_DIASPORA_SELECTION_HPP
#define OCTOPUS_DIASPORA_SELECTION_HPP

#include <diaspora/DataDescriptor.hpp>
#include <diaspora/DataView.hpp>

#include <cstddef>
#include <string_view>
#include <vector>

namespace octopus::adapter {

/* Returns the pieces of `size` bytes of data that a descriptor selects, in order. Each selection of
 * the descriptor is relative to the result of the one below. Throws diaspora::Exception if one
 * reaches beyond that. */
std::vector<diaspora::DataDescriptor::Segment> selected(const diaspora::DataDescriptor &descriptor,
                                                        std::size_t size);

/* Copies the pieces of the data one after the other to the memory of the view. Throws
 * diaspora::Exception if that is too small or NULL. */
void copy(std::string_view data, const std::vector<diaspora::DataDescriptor::Segment> &pieces,
          const diaspora::DataView &into);

} // namespace octopus::adapter

#endif

/* What a data selector chose of an event's data, and how it gets into the memory that an allocator gave. */

#ifndef OCTOPUS_DIASPORA_SELECTION_HPP
#define OCTOPUS_DIASPORA_SELECTION_HPP

#include <diaspora/DataDescriptor.hpp>
#include <diaspora/DataView.hpp>

#include <cstddef>
#include <string_view>
#include <vector>

namespace octopus::adapter {

/* The pieces of `size` bytes of data that a descriptor selects, in order: each of its selections is relative to what the one
 * below selects. Throws diaspora::Exception when one reaches beyond that. */
std::vector<diaspora::DataDescriptor::Segment> selected(const diaspora::DataDescriptor &descriptor, std::size_t size);

/* Copies these pieces of the data, one after the other, into the memory of the view. Throws diaspora::Exception when that is
 * too small, or is at NULL. */
void copy(std::string_view data, const std::vector<diaspora::DataDescriptor::Segment> &pieces,
          const diaspora::DataView &into);

} // namespace octopus::adapter

#endif

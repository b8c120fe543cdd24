#include "Selection.hpp"

#include <diaspora/Exception.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <variant>

namespace octopus::adapter {

namespace {

using Descriptor = diaspora::DataDescriptor;
using Pieces = std::vector<Descriptor::Segment>;

/* A sequence of pieces of the data, addressed as one contiguous range. */
class Layer {
public:
    explicit Layer(std::size_t size) : size_(size)
    {
        if (size > 0)
            pieces_.push_back({0, size});
        starts_.push_back(0);
    }

    std::size_t size() const { return size_; }
    Pieces take_pieces() { return std::move(pieces_); }

    /* Appends the pieces in this range of the layer below. */
    void append_range_of(const Layer &below, std::size_t offset, std::size_t size)
    {
        if (offset > below.size_ || size > below.size_ - offset)
            throw diaspora::Exception("selecting an event's data: " + std::to_string(size) +
                                      " bytes from offset " + std::to_string(offset) +
                                      " reach beyond the " + std::to_string(below.size_) +
                                      " available bytes");
        auto index = static_cast<std::size_t>(
            std::upper_bound(below.starts_.begin(), below.starts_.end(), offset) -
            below.starts_.begin() - 1);
        while (size > 0) {
            const auto &piece = below.pieces_[index];
            const std::size_t skipped = offset - below.starts_[index];
            const std::size_t taken = std::min(size, piece.size - skipped);
            append({piece.offset + skipped, taken});
            offset += taken;
            size -= taken;
            index++;
        }
    }

    static Layer empty() { return Layer(0); }

private:
    void append(Descriptor::Segment piece)
    {
        if (!pieces_.empty() && pieces_.back().offset + pieces_.back().size == piece.offset) {
            pieces_.back().size += piece.size;
        } else {
            if (!pieces_.empty())
                starts_.push_back(size_);
            pieces_.push_back(piece);
        }
        size_ += piece.size;
    }

    Pieces pieces_;
    std::vector<std::size_t> starts_; /* the offset of each piece in the layer */
    std::size_t size_;
};

void select(const Descriptor::Contiguous &range, const Layer &below, Layer &above)
{
    above.append_range_of(below, range.offset, range.size);
}

void select(const Descriptor::Strided &strided, const Layer &below, Layer &above)
{
    if (strided.blocksize == 0)
        return;
    /* The gap is capped so that the next offset can't overflow: a block that starts beyond the end
     * is an error anyway. */
    std::size_t offset = strided.offset;
    for (std::size_t block = 0; block < strided.numblocks; block++) {
        above.append_range_of(below, offset, strided.blocksize);
        const std::size_t remaining = below.size() - offset - strided.blocksize;
        offset += strided.blocksize + std::min(strided.gapsize, remaining + 1);
    }
}

void select(const Descriptor::Unstructured &unstructured, const Layer &below, Layer &above)
{
    for (const auto &segment : unstructured.segments)
        above.append_range_of(below, segment.offset, segment.size);
}

} // namespace

Pieces selected(const Descriptor &descriptor, std::size_t size)
{
    if (descriptor.selections().empty()) {
        Layer all = Layer::empty();
        all.append_range_of(Layer(size), 0, descriptor.size());
        return all.take_pieces();
    }
    Layer below(size);
    for (const auto &selection : descriptor.selections()) {
        Layer above = Layer::empty();
        std::visit([&](const auto &one) { select(one, below, above); }, selection);
        below = std::move(above);
    }
    return below.take_pieces();
}

void copy(std::string_view data, const Pieces &pieces, const diaspora::DataView &into)
{
    const auto sum = [](std::size_t size, const auto &segment) { return size + segment.size; };
    std::size_t required = 0, available = 0;
    for (const auto &piece : pieces)
        required = sum(required, piece);
    for (const auto &segment : into.segments())
        available = sum(available, segment);
    if (available < required)
        throw diaspora::Exception("loading an event's data: " + std::to_string(required) +
                                  " bytes are selected, and the allocator returned memory for " +
                                  std::to_string(available));
    auto segment = into.segments().begin();
    std::size_t filled = 0;
    for (auto [offset, left] : pieces) {
        while (left > 0) {
            if (filled == segment->size) {
                ++segment;
                filled = 0;
                continue;
            }
            if (!segment->ptr)
                throw diaspora::Exception(
                    "loading an event's data: the allocator returned a segment of " +
                    std::to_string(segment->size) + " bytes at NULL");
            const std::size_t copied = std::min(left, segment->size - filled);
            std::memcpy(static_cast<char *>(segment->ptr) + filled, data.data() + offset, copied);
            offset += copied;
            filled += copied;
            left -= copied;
        }
    }
}

} // namespace octopus::adapter

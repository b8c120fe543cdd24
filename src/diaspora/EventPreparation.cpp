#include "EventPreparation.hpp"

#include <diaspora/Archive.hpp>

#include <algorithm>
#include <limits>

namespace octopus::adapter {

namespace {

/* Writes into the event's record. */
class OutputArchive final : public diaspora::Archive {
public:
    explicit OutputArchive(const Output &output) : output_(output) {}

    void read(void *, std::size_t) override
    {
        throw diaspora::Exception("serializing an event's metadata: its serializer reads from what it should write to");
    }

    void write(const void *buffer, std::size_t size) override
    {
        output_.append(std::string_view(static_cast<const char *>(buffer), size));
    }

private:
    const Output &output_;
};

diaspora::DataView view_of(const std::vector<std::string_view> &data)
{
    std::vector<diaspora::DataView::Segment> segments;
    segments.reserve(data.size());
    for (const std::string_view segment : data)
        segments.push_back({const_cast<char *>(segment.data()), segment.size()}); /* validators only look */
    return diaspora::DataView(std::move(segments));
}

template <class Work> auto keeping(std::exception_ptr &thrown, Work work)
{
    try {
        return work();
    } catch (...) {
        thrown = std::current_exception();
        throw;
    }
}

} // namespace

void EventPreparation::prepare(const std::vector<std::string_view> &data, const Output &metadata)
{
    keeping(*thrown_, [&] {
        components_->validator().validate(metadata_, view_of(data));
        OutputArchive archive(metadata);
        components_->serializer().serialize(archive, metadata_);
    });
}

std::uint32_t EventPreparation::select(std::optional<std::uint64_t> requested, std::uint32_t)
{
    return keeping(*thrown_, [&] {
        const std::size_t partition = selector_.selectPartitionFor(metadata_, requested);
        /* One that is too large for Kafka is none of the topic's, which the core says. */
        return static_cast<std::uint32_t>(std::min<std::size_t>(partition, std::numeric_limits<std::uint32_t>::max()));
    });
}

} // namespace octopus::adapter

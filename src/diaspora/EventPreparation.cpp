#include "EventPreparation.hpp"

#include "Json.hpp"

#include <diaspora/Archive.hpp>

#include <algorithm>
#include <limits>

namespace octopus::adapter {

namespace {

/* An archive that writes into the event's record. */
class OutputArchive final : public diaspora::Archive {
public:
    explicit OutputArchive(const Output &output) : output_(output) {}

    void read(void *, std::size_t) override
    {
        throw diaspora::Exception(
            "serializing an event's metadata: the serializer read from the archive, which is write-only");
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
        segments.push_back({const_cast<char *>(segment.data()),
                            segment.size()}); /* validators don't write to the data */
    return diaspora::DataView(std::move(segments));
}

bool is_empty(const nlohmann::json &metadata)
{
    return metadata.is_null() || (metadata.is_object() && metadata.empty());
}

/* Runs `work` and stores what it throws, of any type, before rethrowing it. */
template <class Work> auto storing_exception(std::exception_ptr &thrown, Work work)
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
    storing_exception(*thrown_, [&] {
        if (*thrown_)
            std::rethrow_exception(*thrown_);
        components_->validator().validate(metadata_, view_of(data));
        if (record_format_ == OCTOPUS_RECORD_DIASPORA) {
            OutputArchive archive(metadata);
            components_->serializer().serialize(archive, metadata_);
        } else if (record_format_ == OCTOPUS_RECORD_JSON || !is_empty(metadata_.json())) {
            /* The core rejects metadata in a record that has data only. */
            std::string text;
            write_json(metadata_.json(), text);
            metadata.append(text);
        }
    });
}

std::uint32_t EventPreparation::select(std::optional<std::uint64_t> requested, std::uint32_t)
{
    return storing_exception(*thrown_, [&] {
        const std::size_t partition = selector_.selectPartitionFor(metadata_, requested);
        /* A number above 32 bits is capped. The core rejects it, as any partition that the topic
         * lacks. */
        return static_cast<std::uint32_t>(
            std::min<std::size_t>(partition, std::numeric_limits<std::uint32_t>::max()));
    });
}

} // namespace octopus::adapter

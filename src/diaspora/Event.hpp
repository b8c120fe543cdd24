/* An event with its deserialized metadata and its selected data. */

#ifndef OCTOPUS_DIASPORA_EVENT_HPP
#define OCTOPUS_DIASPORA_EVENT_HPP

#include "Core.hpp"

#include <diaspora/Event.hpp>

namespace octopus::adapter {

class Event final : public diaspora::EventInterface {
public:
    Event(octopus::Event in_core, diaspora::Metadata metadata, diaspora::DataView data)
        : in_core_(std::move(in_core)), metadata_(std::move(metadata)), data_(std::move(data))
    {
    }

    const diaspora::Metadata &metadata() const override { return metadata_; }
    const diaspora::DataView &data() const override { return data_; }
    diaspora::EventID id() const override { return in_core_.id(); }

    diaspora::PartitionInfo partition() const override
    {
        return diaspora::PartitionInfo{nlohmann::json{{"partition_id", in_core_.partition()}}};
    }

    void acknowledge() const override
    {
        with_api_exceptions([&] { in_core_.acknowledge(); });
    }

private:
    octopus::Event in_core_;
    diaspora::Metadata metadata_;
    diaspora::DataView data_;
};

} // namespace octopus::adapter

#endif

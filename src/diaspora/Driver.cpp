#include "Driver.hpp"

#include "ThreadPool.hpp"
#include "TopicHandle.hpp"

namespace octopus::adapter {

namespace {

octopus::Driver made(const diaspora::Metadata &options)
{
    Services services;
    services.has_components = true; /* C++ objects, made by the API */
    return in_their_terms([&] { return octopus::Driver(core(), options.dump(), std::move(services)); });
}

/* As the info topic keeps it; nothing for the default one. */
template <class Component> std::string description_of(const std::shared_ptr<Component> &component)
{
    return component ? component->metadata().dump() : std::string();
}

} // namespace

Driver::Driver(const diaspora::Metadata &options)
    : in_core_(made(options)), default_pool_(std::make_shared<ThreadPool>(diaspora::ThreadCount{0}))
{
}

std::shared_ptr<diaspora::DriverInterface> Driver::create(const diaspora::Metadata &options)
{
    return std::make_shared<Driver>(options);
}

void Driver::createTopic(std::string_view name, const diaspora::Metadata &options,
                         std::shared_ptr<diaspora::ValidatorInterface> validator,
                         std::shared_ptr<diaspora::PartitionSelectorInterface> selector,
                         std::shared_ptr<diaspora::SerializerInterface> serializer)
{
    const std::string described[] = {options.dump(), description_of(validator), description_of(selector),
                                     description_of(serializer)};
    in_their_terms([&] {
        in_core_.create_topic(name, TopicOptions{described[0], described[1], described[2], described[3]});
    });
}

std::shared_ptr<diaspora::TopicHandleInterface> Driver::openTopic(std::string_view name) const
{
    auto opened = in_their_terms([&] { return in_core_.open_topic(name); });
    /* The API's drivers are const when they open topics, and topics give them back as they are. */
    auto self = std::const_pointer_cast<Driver>(shared_from_this());
    return std::make_shared<TopicHandle>(std::move(opened), std::move(self));
}

bool Driver::topicExists(std::string_view name) const
{
    return in_their_terms([&] { return in_core_.topic_exists(name); });
}

std::unordered_map<std::string, diaspora::Metadata> Driver::listTopics() const
{
    const auto listed = nlohmann::json::parse(in_their_terms([&] { return in_core_.list_topics(); }));
    std::unordered_map<std::string, diaspora::Metadata> topics;
    for (const auto &[name, topic] : listed.items())
        topics.emplace(name, diaspora::Metadata{topic});
    return topics;
}

std::shared_ptr<diaspora::ThreadPoolInterface> Driver::makeThreadPool(diaspora::ThreadCount count) const
{
    return std::make_shared<ThreadPool>(count);
}

namespace {
DIASPORA_REGISTER_DRIVER(octopus, octopus, Driver);
}

} // namespace octopus::adapter

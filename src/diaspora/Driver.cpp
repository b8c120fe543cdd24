#include "Driver.hpp"

#include "ThreadPool.hpp"
#include "TopicHandle.hpp"

namespace octopus::adapter {

namespace {

octopus::Driver create_driver(const nlohmann::json &options)
{
    Services services;
    services.has_components = true; /* C++ objects, which the API creates */
    return with_api_exceptions(
        [&] { return octopus::Driver(core(), options.dump(), std::move(services)); });
}

/* The description as it is stored in the info topic; empty for the default component. */
template <class Component> std::string description_of(const std::shared_ptr<Component> &component)
{
    return component ? component->metadata().dump() : std::string();
}

} // namespace

Driver::Driver(nlohmann::json options)
    : attributes_field_(AttributesField::take_option(options)), in_core_(create_driver(options)),
      default_pool_(std::make_shared<ThreadPool>(diaspora::ThreadCount{0}))
{
}

std::shared_ptr<diaspora::DriverInterface> Driver::create(const diaspora::Metadata &options)
{
    return std::make_shared<Driver>(options.json());
}

void Driver::createTopic(std::string_view name, const diaspora::Metadata &options,
                         std::shared_ptr<diaspora::ValidatorInterface> validator,
                         std::shared_ptr<diaspora::PartitionSelectorInterface> selector,
                         std::shared_ptr<diaspora::SerializerInterface> serializer)
{
    const std::string descriptions[] = {options.dump(), description_of(validator),
                                        description_of(selector), description_of(serializer)};
    with_api_exceptions([&] {
        in_core_.create_topic(
            name, TopicOptions{descriptions[0], descriptions[1], descriptions[2], descriptions[3]});
    });
}

std::shared_ptr<diaspora::TopicHandleInterface> Driver::openTopic(std::string_view name) const
{
    auto opened = with_api_exceptions([&] { return in_core_.open_topic(name); });
    /* The API's openTopic is const, while the topic's `driver` returns a non-const driver. */
    auto self = std::const_pointer_cast<Driver>(shared_from_this());
    return std::make_shared<TopicHandle>(std::move(opened), std::move(self), attributes_field_);
}

bool Driver::topicExists(std::string_view name) const
{
    return with_api_exceptions([&] { return in_core_.topic_exists(name); });
}

std::unordered_map<std::string, diaspora::Metadata> Driver::listTopics() const
{
    const auto listed = nlohmann::json::parse(
        with_api_exceptions([&] { return in_core_.list_topics(); }));
    std::unordered_map<std::string, diaspora::Metadata> topics;
    for (const auto &[name, topic] : listed.items())
        topics.emplace(name, diaspora::Metadata{topic});
    return topics;
}

std::shared_ptr<diaspora::ThreadPoolInterface>
Driver::makeThreadPool(diaspora::ThreadCount count) const
{
    return std::make_shared<ThreadPool>(count);
}

namespace {
DIASPORA_REGISTER_DRIVER(octopus, octopus, Driver);
}

} // namespace octopus::adapter

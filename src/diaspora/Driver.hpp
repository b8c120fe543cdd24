/* The driver that is registered as "octopus" with the Diaspora API. */

#ifndef OCTOPUS_DIASPORA_DRIVER_HPP
#define OCTOPUS_DIASPORA_DRIVER_HPP

#include "AttributesField.hpp"
#include "Core.hpp"

#include <diaspora/Driver.hpp>

#include <memory>
#include <optional>

namespace octopus::adapter {

class Driver final : public diaspora::DriverInterface, public std::enable_shared_from_this<Driver> {
public:
    explicit Driver(nlohmann::json options);

    /* The factory that the Diaspora API calls. */
    static std::shared_ptr<diaspora::DriverInterface> create(const diaspora::Metadata &options);

    /* NULL selects the default component. */
    void createTopic(std::string_view name, const diaspora::Metadata &options,
                     std::shared_ptr<diaspora::ValidatorInterface> validator,
                     std::shared_ptr<diaspora::PartitionSelectorInterface> selector,
                     std::shared_ptr<diaspora::SerializerInterface> serializer) override;

    std::shared_ptr<diaspora::TopicHandleInterface> openTopic(std::string_view name) const override;
    bool topicExists(std::string_view name) const override;
    std::unordered_map<std::string, diaspora::Metadata> listTopics() const override;
    std::shared_ptr<diaspora::ThreadPoolInterface> defaultThreadPool() const override
    {
        return default_pool_;
    }
    std::shared_ptr<diaspora::ThreadPoolInterface>
    makeThreadPool(diaspora::ThreadCount count) const override;

private:
    std::optional<AttributesField> attributes_field_;
    octopus::Driver in_core_;
    std::shared_ptr<diaspora::ThreadPoolInterface> default_pool_;
};

} // namespace octopus::adapter

#endif

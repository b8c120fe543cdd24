#include "TopicHandle.hpp"

#include "Consumer.hpp"
#include "Producer.hpp"
#include "ThreadPool.hpp"

#include <algorithm>
#include <limits>

namespace octopus::adapter {

namespace {

std::shared_ptr<const Components> components_of(const octopus::Topic &topic)
{
    return with_api_exceptions([&] {
        return std::make_shared<const Components>(std::string(topic.name()), topic.components(),
                                                  topic.partition_count());
    });
}

/* A number above 32 bits is capped. The core rejects it, as any partition that the topic lacks. */
std::vector<std::uint32_t> as_numbers(const std::vector<std::size_t> &targets)
{
    constexpr std::size_t max_number = std::numeric_limits<std::uint32_t>::max();
    std::vector<std::uint32_t> numbers;
    numbers.reserve(targets.size());
    for (const std::size_t target : targets)
        numbers.push_back(static_cast<std::uint32_t>(std::min(target, max_number)));
    return numbers;
}

} // namespace

TopicHandle::TopicHandle(octopus::Topic in_core, std::shared_ptr<diaspora::DriverInterface> driver,
                         std::optional<AttributesField> attributes_field)
    : in_core_(std::move(in_core)), name_(in_core_.name()), driver_(std::move(driver)),
      components_(components_of(in_core_)), attributes_field_(std::move(attributes_field))
{
}

std::shared_ptr<diaspora::ProducerInterface>
TopicHandle::makeProducer(std::string_view name, diaspora::BatchSize batch_size,
                          diaspora::MaxNumBatches max_batches, diaspora::Ordering ordering,
                          std::shared_ptr<diaspora::ThreadPoolInterface> pool,
                          diaspora::Metadata options)
{
    if (!pool)
        pool = driver_->defaultThreadPool();
    auto pool_in_core = for_the_core(pool);
    const auto text = options.dump();
    ProducerOptions how;
    how.name = name;
    how.options = text;
    how.batch_size = batch_size.value;
    how.max_batches = max_batches.value;
    how.is_loose = ordering == diaspora::Ordering::Loose;
    how.pool = pool_in_core.get();
    auto created = with_api_exceptions([&] { return in_core_.producer(how); });
    ProducerSettings settings{std::string(name), batch_size,      max_batches,
                              ordering,          std::move(pool), std::move(pool_in_core)};
    return std::make_shared<Producer>(std::move(created), std::move(settings), components_,
                                      attributes_field_, shared_from_this());
}

std::shared_ptr<diaspora::ConsumerInterface>
TopicHandle::makeConsumer(std::string_view name, diaspora::BatchSize batch_size,
                          diaspora::MaxNumBatches max_batches,
                          std::shared_ptr<diaspora::ThreadPoolInterface> pool,
                          diaspora::DataAllocator allocator, diaspora::DataSelector selector,
                          const std::vector<std::size_t> &targets, diaspora::Metadata options)
{
    const auto text = options.dump();
    ConsumerOptions how;
    how.options = text;
    how.batch_size = batch_size.value;
    how.max_batches = max_batches.value;
    how.targets = as_numbers(targets);
    auto created = with_api_exceptions([&] { return in_core_.consumer(name, how); });
    ConsumerSettings settings{std::string(name), batch_size, max_batches,
                              pool ? std::move(pool) : driver_->defaultThreadPool()};
    auto loader = std::make_shared<const EventLoader>(components_, attributes_field_,
                                                      std::move(allocator), std::move(selector));
    return std::make_shared<Consumer>(std::move(created), std::move(settings), std::move(loader),
                                      shared_from_this());
}

} // namespace octopus::adapter

/* A consumer of the Diaspora API: pulls or processes events, and loads their metadata and data. */

#ifndef OCTOPUS_DIASPORA_CONSUMER_HPP
#define OCTOPUS_DIASPORA_CONSUMER_HPP

#include "Core.hpp"
#include "EventLoader.hpp"

#include <diaspora/Consumer.hpp>
#include <diaspora/ThreadPool.hpp>

#include <memory>
#include <string>

namespace octopus::adapter {

class TopicHandle;

/* The arguments that a consumer was created with, which its getters return. */
struct ConsumerSettings {
    std::string name;
    diaspora::BatchSize batch_size;
    diaspora::MaxNumBatches max_batches;
    std::shared_ptr<diaspora::ThreadPoolInterface> pool;
};

class Consumer final : public diaspora::ConsumerInterface {
public:
    Consumer(octopus::Consumer in_core, ConsumerSettings settings,
             std::shared_ptr<const EventLoader> loader, std::shared_ptr<TopicHandle> topic);
    ~Consumer() override;

    const std::string &name() const override { return settings_.name; }
    diaspora::BatchSize batchSize() const override { return settings_.batch_size; }
    diaspora::MaxNumBatches maxNumBatches() const override { return settings_.max_batches; }
    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override
    {
        return settings_.pool;
    }
    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override;
    const diaspora::DataAllocator &dataAllocator() const override { return loader_->allocator(); }
    const diaspora::DataSelector &dataSelector() const override { return loader_->selector(); }

    /* If `pool` is NULL, uses the driver's default pool, which runs the processor on the calling
     * thread. Events are loaded on the thread that processes them. */
    void process(diaspora::EventProcessor processor, int timeout_ms, diaspora::NumEvents max_events,
                 std::shared_ptr<diaspora::ThreadPoolInterface> pool) override;

    /* Commits the acknowledged events and leaves the group. If no broker responds within 5 s, this
     * continues in the background. Never throws, since the API calls it in a destructor. */
    void unsubscribe() override;

    diaspora::Future<std::optional<diaspora::Event>> pull() override;

private:
    octopus::Consumer in_core_;
    ConsumerSettings settings_;
    std::shared_ptr<const EventLoader> loader_;
    std::shared_ptr<TopicHandle> topic_;
};

} // namespace octopus::adapter

#endif

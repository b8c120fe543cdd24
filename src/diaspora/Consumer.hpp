/* Reads events and loads them: as pulls, or by processing. */

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

/* What a consumer was made with, to be told again. */
struct ConsumerSettings {
    std::string name;
    diaspora::BatchSize batch_size;
    diaspora::MaxNumBatches max_batches;
    std::shared_ptr<diaspora::ThreadPoolInterface> pool;
};

class Consumer final : public diaspora::ConsumerInterface {
public:
    Consumer(octopus::Consumer in_core, ConsumerSettings settings, std::shared_ptr<const EventLoader> loader,
             std::shared_ptr<TopicHandle> topic);
    ~Consumer() override;

    const std::string &name() const override { return settings_.name; }
    diaspora::BatchSize batchSize() const override { return settings_.batch_size; }
    diaspora::MaxNumBatches maxNumBatches() const override { return settings_.max_batches; }
    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override { return settings_.pool; }
    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override;
    const diaspora::DataAllocator &dataAllocator() const override { return loader_->allocator(); }
    const diaspora::DataSelector &dataSelector() const override { return loader_->selector(); }

    /* Without a pool in the driver's default one, so in the caller. Events are loaded where they are processed. */
    void process(diaspora::EventProcessor processor, int timeout_ms, diaspora::NumEvents most,
                 std::shared_ptr<diaspora::ThreadPoolInterface> pool) override;

    /* Commits what was acknowledged and leaves the group; what takes longer than a few seconds, since no broker answers, goes
     * on in the background. Never throws: the API calls it in a destructor. */
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

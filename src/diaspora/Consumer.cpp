#include "Consumer.hpp"

#include "PendingEvent.hpp"
#include "ThreadPool.hpp"
#include "TopicHandle.hpp"

#include <cstdio>

namespace octopus::adapter {

Consumer::Consumer(octopus::Consumer in_core, ConsumerSettings settings, std::shared_ptr<const EventLoader> loader,
                   std::shared_ptr<TopicHandle> topic)
    : in_core_(std::move(in_core)), settings_(std::move(settings)), loader_(std::move(loader)), topic_(std::move(topic))
{
}

Consumer::~Consumer() { unsubscribe(); }

std::shared_ptr<diaspora::TopicHandleInterface> Consumer::topic() const { return topic_; }

void Consumer::process(diaspora::EventProcessor processor, int timeout_ms, diaspora::NumEvents most,
                       std::shared_ptr<diaspora::ThreadPoolInterface> pool)
{
    if (!processor)
        throw diaspora::Exception("processing events: the processor is an empty function");
    const auto process = [&](octopus::Event *event) {
        try {
            std::optional<diaspora::Event> given;
            diaspora::DataView kept;
            if (event)
                given = loader_->load(std::move(*event), kept);
            processor(given);
            return Flow::go_on;
        } catch (const diaspora::StopEventProcessor &) {
            return Flow::stop;
        }
    };
    const auto in_core = for_the_core(pool ? pool : topic_->driver()->defaultThreadPool());
    Processing how;
    how.timeout = milliseconds(timeout_ms);
    how.max_events = most.value;
    how.pool = in_core.get();
    in_their_terms([&] { in_core_.process(process, how); });
}

void Consumer::unsubscribe()
{
    constexpr milliseconds a_few_seconds(5'000);
    try {
        in_core_.close(a_few_seconds);
    } catch (const Error &error) {
        if (error.status() != OCTOPUS_CLOSED)
            std::fprintf(stderr, "[octopus:warn] closing consumer \"%s\": %s\n", settings_.name.c_str(), error.what());
    }
}

diaspora::Future<std::optional<diaspora::Event>> Consumer::pull()
{
    auto ticket = in_their_terms([&] { return in_core_.pull(); });
    const auto pending = std::make_shared<PendingEvent>(std::move(ticket), loader_);
    return {[pending](int timeout_ms) { return pending->wait(timeout_ms); },
            [pending] { return pending->is_there(); }};
}

} // namespace octopus::adapter

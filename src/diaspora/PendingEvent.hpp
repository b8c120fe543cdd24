/* A pull of the API: a ticket for the next event, which is loaded once, whoever waits and however often. */

#ifndef OCTOPUS_DIASPORA_PENDING_EVENT_HPP
#define OCTOPUS_DIASPORA_PENDING_EVENT_HPP

#include "Core.hpp"
#include "EventLoader.hpp"

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>

namespace octopus::adapter {

class PendingEvent {
public:
    PendingEvent(octopus::Pull ticket, std::shared_ptr<const EventLoader> loader)
        : ticket_(std::move(ticket)), loader_(std::move(loader))
    {
    }

    /* Nothing when the time passed. Dropped before this returned an event, it has taken none. */
    std::optional<diaspora::Event> wait(int timeout_ms);

    /* Whether a wait would find an event; never blocks, and loads nothing. */
    bool is_there() const;

private:
    enum class State { unloaded, loading, loaded };

    void load(octopus::Event event);

    octopus::Pull ticket_;
    std::shared_ptr<const EventLoader> loader_;
    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::unloaded;
    diaspora::Event event_;
    std::exception_ptr failure_;
    diaspora::DataView kept_;
};

} // namespace octopus::adapter

#endif

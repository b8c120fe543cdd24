/* A pull of the API: a pending pull of the core, whose event is loaded once even if several threads
 * wait for it repeatedly. */

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
    PendingEvent(octopus::Pull pull, std::shared_ptr<const EventLoader> loader)
        : pull_(std::move(pull)), loader_(std::move(loader))
    {
    }

    /* Returns nothing at the timeout. An object that is destroyed before this returned an event has
     * taken none. */
    std::optional<diaspora::Event> wait(int timeout_ms);

    /* Whether `wait` would return an event. Never blocks and loads nothing. */
    bool is_ready() const;

private:
    enum class State { unloaded, loading, loaded };

    void load(octopus::Event event);

    octopus::Pull pull_;
    std::shared_ptr<const EventLoader> loader_;
    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::unloaded;
    diaspora::Event event_;
    std::exception_ptr failure_;
    diaspora::DataView data_;
};

} // namespace octopus::adapter

#endif

/* What is waited on: the delivery of a push, a flush, the next event. A part of octopus.hpp. */

#ifndef OCTOPUS_FUTURE_HPP
#define OCTOPUS_FUTURE_HPP

#include "detail.hpp"
#include "event.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

namespace octopus {

/* What all futures have. Of one future several threads may wait, and ask again. Destroying it ends nothing. */
class Future {
public:
    /* Whether a wait would return at once. Never blocks. A pull takes its event here if one is there. */
    bool is_done() const
    {
        return detail::get<std::int32_t>(handle_.api(), handle_.api().future->test, handle_.get()) != 0;
    }

protected:
    explicit Future(detail::Handle<octopus_future> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_future> shared() const
    {
        handle_.api().future->retain(handle_.get());
        return detail::Handle<octopus_future>(handle_.api(), handle_.get());
    }

    bool has_come(milliseconds at_most) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().future->wait, handle_.get(), at_most.count());
    }

    /* Has `function` called with a future of this kind when the result is there. */
    template <class Kind> void call_when_done(std::function<void(Kind &)> function) const
    {
        struct Context {
            const octopus_api &api;
            std::function<void(Kind &)> function;
        };
        octopus_completion completion{};
        completion.context =
            detail::give_away(std::unique_ptr<Context>(new Context{handle_.api(), std::move(function)}));
        completion.destroy = detail::destroy<Context>;
        completion.function = [](void *given, octopus_future *lent) noexcept {
            const Context &context = *static_cast<Context *>(given);
            context.api.future->retain(lent);
            Kind future(detail::Handle<octopus_future>(context.api, lent));
            context.function(future);
        };
        detail::call(handle_.api(), handle_.api().future->on_complete, handle_.get(), &completion);
    }

    detail::Handle<octopus_future> handle_;
};

/* Where the broker put an event. */
struct Delivered {
    /* The offset, or OCTOPUS_EVENT_ID_UNKNOWN when the broker had the event already and its first answer was lost. */
    std::uint64_t id;
    std::uint32_t partition;
};

/* The delivery of a pushed event. */
class Push : public Future {
public:
    /* Nothing when the time passed; throws when the event was not delivered. */
    std::optional<Delivered> wait(milliseconds at_most = forever) const
    {
        if (!has_come(at_most))
            return std::nullopt;
        const octopus_api &api = handle_.api();
        return Delivered{detail::get<std::uint64_t>(api, api.future->event_id, handle_.get()),
                         detail::get<std::uint32_t>(api, api.future->partition, handle_.get())};
    }

    /* Calls once when the event is delivered or has failed, on a thread of the plugin, never in this call. */
    void on_complete(std::function<void(Push &)> function) const { call_when_done<Push>(std::move(function)); }

    /* Another handle to the same future. */
    Push share() const { return Push(shared()); }

private:
    friend class Future;
    friend class Producer;
    explicit Push(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

/* The end of everything that was pushed before a flush. */
class Flush : public Future {
public:
    /* False when the time passed; throws, counting them, when events pushed since the flush before were not delivered. */
    bool wait(milliseconds at_most = forever) const { return has_come(at_most); }

    void on_complete(std::function<void(Flush &)> function) const { call_when_done<Flush>(std::move(function)); }

    Flush share() const { return Flush(shared()); }

private:
    friend class Future;
    friend class Producer;
    explicit Flush(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

/* A ticket for the next event: it takes one inside a call that returns it, and nothing when it is destroyed before. */
class Pull : public Future {
public:
    /* Nothing when the time passed; the mark at the end of a topic comes as an event. Throws, among others, with
     * OCTOPUS_MALFORMED_RECORD, once for each such record: the next pull reads on. */
    std::optional<Event> wait(milliseconds at_most = forever) const
    {
        const octopus_api &api = handle_.api();
        const octopus_status status = detail::outcome(api, api.future->wait, handle_.get(), at_most.count());
        if (status == OCTOPUS_TIMED_OUT)
            return std::nullopt;
        if (status != OCTOPUS_OK && status != OCTOPUS_END_OF_TOPIC)
            Error::raise(api, status, nullptr);
        return Event(detail::make<octopus_event>(api, api.future->event, handle_.get()));
    }

    /* Calls once with an event, or what there is in its place, on a thread of the plugin. The event is then this future's. */
    void on_complete(std::function<void(Pull &)> function) const { call_when_done<Pull>(std::move(function)); }

    Pull share() const { return Pull(shared()); }

private:
    friend class Future;
    friend class Consumer;
    explicit Pull(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

} // namespace octopus

#endif /* OCTOPUS_FUTURE_HPP */

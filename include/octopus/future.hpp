/// @file
/// The results of pushes, flushes and pulls. Part of octopus.hpp.

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

/// The functions that all futures have. Several threads may wait for one future, any number of
/// times. Destroying a future does not cancel the operation.
///
/// @since 0.1
class Future {
public:
    /// @return Whether `wait` would return at once. A pull takes the next event inside this call,
    /// if there is one.
    /// @note Does not block.
    bool is_done() const
    {
        return detail::get<std::int32_t>(handle_.api(), handle_.api().future->test,
                                         handle_.get()) != 0;
    }

protected:
    explicit Future(detail::Handle<octopus_future> handle) : handle_(std::move(handle)) {}

    detail::Handle<octopus_future> shared() const
    {
        handle_.api().future->retain(handle_.get());
        return detail::Handle<octopus_future>(handle_.api(), handle_.get());
    }

    bool wait_for_result(milliseconds timeout) const
    {
        return detail::call_in_time(handle_.api(), handle_.api().future->wait, handle_.get(),
                                    timeout.count());
    }

    void wait_for_result() const
    {
        detail::call(handle_.api(), handle_.api().future->wait, handle_.get(), forever.count());
    }

    /// Registers a function that is called with a future of this kind when there is a result.
    template <class Kind> void register_completion(std::function<void(Kind &)> function) const
    {
        struct Context {
            const octopus_api &api;
            std::function<void(Kind &)> function;
        };
        octopus_completion completion{};
        completion.context = detail::into_context(
            std::unique_ptr<Context>(new Context{handle_.api(), std::move(function)}));
        completion.destroy = detail::destroy<Context>;
        completion.function = [](void *pointer, octopus_future *borrowed) noexcept {
            const Context &context = *static_cast<Context *>(pointer);
            context.api.future->retain(borrowed);
            Kind future(detail::Handle<octopus_future>(context.api, borrowed));
            context.function(future);
        };
        detail::call(handle_.api(), handle_.api().future->on_complete, handle_.get(), &completion);
    }

    detail::Handle<octopus_future> handle_;
};

/// The place of a delivered event.
///
/// @since 0.1
struct Delivered {
    /// The offset, or OCTOPUS_EVENT_ID_UNKNOWN if the broker had the event already, because its
    /// first response was lost.
    std::uint64_t id;
    /// The partition.
    std::uint32_t partition;
};

/// The delivery of a pushed event.
///
/// @since 0.1
class Push : public Future {
public:
    /// Waits until the event is delivered. Events that linger in the producer are sent now.
    ///
    /// @param timeout The longest time to wait.
    /// @return The place of the event; none after the timeout.
    /// @throws Error if the event was not delivered; Error::is_possibly_persisted says whether it
    /// may be stored.
    [[nodiscard]] std::optional<Delivered> wait(milliseconds timeout) const
    {
        if (!wait_for_result(timeout))
            return std::nullopt;
        return place();
    }

    /// As the other overload, without a limit.
    ///
    /// @return The place of the event.
    /// @throws Error as the other overload.
    Delivered wait() const
    {
        wait_for_result();
        return place();
    }

    /// Registers a function that is called once, when the event is delivered or has failed.
    ///
    /// @param function The function. It is called on a plugin thread, never inside this call, and
    /// must not throw.
    void on_complete(std::function<void(Push &)> function) const
    {
        register_completion<Push>(std::move(function));
    }

    /// @return Another handle of the same future.
    Push share() const { return Push(shared()); }

private:
    Delivered place() const
    {
        const octopus_api &api = handle_.api();
        return Delivered{detail::get<std::uint64_t>(api, api.future->event_id, handle_.get()),
                         detail::get<std::uint32_t>(api, api.future->partition, handle_.get())};
    }

    friend class Future;
    friend class Producer;
    explicit Push(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

/// The completion of all pushes before a flush.
///
/// @since 0.1
class Flush : public Future {
public:
    /// Waits until no event that was pushed before the flush is in flight.
    ///
    /// @param timeout The longest time to wait.
    /// @return Whether that is so; false after the timeout.
    /// @throws Error with the number of events that failed since the previous flush, if any.
    [[nodiscard]] bool wait(milliseconds timeout) const { return wait_for_result(timeout); }

    /// As the other overload, without a limit.
    ///
    /// @throws Error as the other overload.
    void wait() const { wait_for_result(); }

    /// Registers a function that is called once, when the flush is complete.
    ///
    /// @param function The function. It is called on a plugin thread, never inside this call, and
    /// must not throw.
    void on_complete(std::function<void(Flush &)> function) const
    {
        register_completion<Flush>(std::move(function));
    }

    /// @return Another handle of the same future.
    Flush share() const { return Flush(shared()); }

private:
    friend class Future;
    friend class Producer;
    explicit Flush(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

/// A pending pull: it takes the next event inside `wait`, `is_done` or a completion. Destroying it
/// before loses nothing.
///
/// @since 0.1
class Pull : public Future {
public:
    /// Waits for the next event. The record that marks the end of a topic is an event, too.
    ///
    /// @param timeout The longest time to wait.
    /// @return The event; none after the timeout.
    /// @throws Error for example with OCTOPUS_MALFORMED_RECORD, once for each such record: the next
    /// pull reads the next record.
    [[nodiscard]] std::optional<Event> wait(milliseconds timeout = forever) const
    {
        const octopus_api &api = handle_.api();
        const octopus_status status = detail::outcome(api, api.future->wait, handle_.get(),
                                                      timeout.count());
        if (status == OCTOPUS_TIMED_OUT)
            return std::nullopt;
        if (status != OCTOPUS_OK && status != OCTOPUS_END_OF_TOPIC)
            Error::raise(api, status, nullptr);
        return Event(detail::make<octopus_event>(api, api.future->event, handle_.get()));
    }

    /// Registers a function that is called once, when this pull has an event or an error, which it
    /// keeps.
    ///
    /// @param function The function. It is called on a plugin thread, never inside this call, and
    /// must not throw.
    void on_complete(std::function<void(Pull &)> function) const
    {
        register_completion<Pull>(std::move(function));
    }

    /// @return Another handle of the same future.
    Pull share() const { return Pull(shared()); }

private:
    friend class Future;
    friend class Consumer;
    explicit Pull(detail::Handle<octopus_future> handle) : Future(std::move(handle)) {}
};

} // namespace octopus

#endif /* OCTOPUS_FUTURE_HPP */

/// @file
/// Helpers of the other headers. Only the constants for times are for users. Part of octopus.hpp.

#ifndef OCTOPUS_DETAIL_HPP
#define OCTOPUS_DETAIL_HPP

#include "error.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace octopus {

using std::chrono::milliseconds;

/// A time without limit.
///
/// @since 0.1
inline constexpr milliseconds forever{-1};

/// The time limit of Consumer::commit by the driver's `timeout_ms`.
///
/// @since 0.1
inline constexpr milliseconds as_configured{-1};

namespace detail {

/// Releases a handle of the C ABI.
struct Release {
    const octopus_api *api;
    void operator()(octopus_driver *handle) const { api->driver->release(handle); }
    void operator()(octopus_topic *handle) const { api->topic->release(handle); }
    void operator()(octopus_producer *handle) const { api->producer->release(handle); }
    void operator()(octopus_consumer *handle) const { api->consumer->release(handle); }
    void operator()(octopus_future *handle) const { api->future->release(handle); }
    void operator()(octopus_event *handle) const { api->event->release(handle); }
    void operator()(octopus_thread_pool *handle) const { api->thread_pool->release(handle); }
    void operator()(octopus_string *handle) const { api->string->release(handle); }
};

/// Owns a reference to an object of the plugin.
template <class T> class Handle {
public:
    Handle(const octopus_api &api, T *handle) : owned_(handle, Release{&api}) {}
    T *get() const { return owned_.get(); }
    const octopus_api &api() const { return *owned_.get_deleter().api; }

private:
    std::unique_ptr<T, Release> owned_;
};

/// Calls a function of the ABI, whose last parameter is the error.
///
/// @return The status if it is not negative.
/// @throws Error if the status is negative.
template <class... Parameters, class... Arguments>
octopus_status outcome(const octopus_api &api, octopus_status (*function)(Parameters...),
                       Arguments... arguments)
{
    octopus_error *error = nullptr;
    const octopus_status status = function(arguments..., &error);
    if (status < 0)
        Error::raise(api, status, error);
    return status;
}

/// Like `outcome`, and throws unless the status is OCTOPUS_OK.
template <class... Parameters, class... Arguments>
void call(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    const octopus_status status = outcome(api, function, arguments...);
    if (status != OCTOPUS_OK)
        Error::raise(api, status, nullptr);
}

/// Like `call`, but returns false for OCTOPUS_TIMED_OUT.
template <class... Parameters, class... Arguments>
bool call_in_time(const octopus_api &api, octopus_status (*function)(Parameters...),
                  Arguments... arguments)
{
    const octopus_status status = outcome(api, function, arguments...);
    if (status != OCTOPUS_OK && status != OCTOPUS_TIMED_OUT)
        Error::raise(api, status, nullptr);
    return status == OCTOPUS_OK;
}

/// Calls a function that returns a handle through its last parameter before the error.
template <class T, class... Parameters, class... Arguments>
Handle<T> make(const octopus_api &api, octopus_status (*function)(Parameters...),
               Arguments... arguments)
{
    T *made = nullptr;
    call(api, function, arguments..., &made);
    return Handle<T>(api, made);
}

/// Calls a function that returns a value through its last parameter before the error.
template <class T, class... Parameters, class... Arguments>
T get(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    T written{};
    call(api, function, arguments..., &written);
    return written;
}

inline octopus_text text(std::string_view from) { return {from.data(), from.size()}; }

inline octopus_bytes bytes(std::string_view from)
{
    return {reinterpret_cast<const std::uint8_t *>(from.data()), from.size()};
}

inline std::string_view view(octopus_text from)
{
    return {from.data, static_cast<std::size_t>(from.size)};
}

inline std::string_view view(octopus_bytes from)
{
    return {reinterpret_cast<const char *>(from.data), static_cast<std::size_t>(from.size)};
}

/// NULL is no value, which is not the same as an empty one.
inline std::optional<std::string_view> optional_view(octopus_bytes from)
{
    return from.data ? std::optional<std::string_view>(view(from)) : std::nullopt;
}

inline octopus_bytes optional_bytes(const std::optional<std::string_view> &from)
{
    if (!from)
        return {nullptr, 0};
    return bytes(from->data() ? *from : std::string_view(""));
}

inline std::vector<std::string_view> views(const octopus_bytes *segments, std::uint64_t count)
{
    std::vector<std::string_view> all;
    all.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t index = 0; index < count; index++)
        all.push_back(view(segments[index]));
    return all;
}

/// A struct of the ABI with its size and zeros.
template <class T> T sized()
{
    T made{};
    made.size = sizeof made;
    return made;
}

/// The text of a string of the plugin, which is released.
inline std::string take_string(Handle<octopus_string> string)
{
    return std::string(view(string.api().string->view(string.get())));
}

/// The context of a callback: an object that `destroy` deletes.
template <class T> void *into_context(std::unique_ptr<T> object) { return object.release(); }
template <class T> void destroy(void *context) noexcept { delete static_cast<T *>(context); }

/// The message of the exception that is being handled.
inline std::string current_message()
{
    try {
        throw;
    } catch (const std::exception &exception) {
        return exception.what();
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

/// Runs a callback of the host. An exception becomes OCTOPUS_CALLBACK_FAILED, with its message as
/// the reason.
template <class Reply, class Work>
octopus_status run_callback(const Reply *reply, Work work) noexcept
{
    try {
        work();
        return OCTOPUS_OK;
    } catch (...) {
        const std::string reason = current_message();
        reply->refuse(reply->token, text(reason));
        return OCTOPUS_CALLBACK_FAILED;
    }
}

/// The requested partition of a push, which is negative if there is none.
inline std::optional<std::uint64_t> requested_partition(std::int64_t requested)
{
    return requested < 0 ? std::nullopt : std::optional<std::uint64_t>(requested);
}

} // namespace detail

} // namespace octopus

#endif /* OCTOPUS_DETAIL_HPP */

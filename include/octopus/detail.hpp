/* How the C functions are called: for the other headers alone, but for the times. A part of octopus.hpp. */

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

/* Waits without end. */
inline constexpr milliseconds forever{-1};

/* Where a driver's `timeout_ms` should bound a commit. */
inline constexpr milliseconds as_configured{-1};

namespace detail {

struct Release {
    const octopus_api *api;
    void operator()(octopus_driver *given) const { api->driver->release(given); }
    void operator()(octopus_topic *given) const { api->topic->release(given); }
    void operator()(octopus_producer *given) const { api->producer->release(given); }
    void operator()(octopus_consumer *given) const { api->consumer->release(given); }
    void operator()(octopus_future *given) const { api->future->release(given); }
    void operator()(octopus_event *given) const { api->event->release(given); }
    void operator()(octopus_thread_pool *given) const { api->thread_pool->release(given); }
    void operator()(octopus_string *given) const { api->string->release(given); }
};

/* Owns what the plugin gave. */
template <class T> class Handle {
public:
    Handle(const octopus_api &api, T *given) : owned_(given, Release{&api}) {}
    T *get() const { return owned_.get(); }
    const octopus_api &api() const { return *owned_.get_deleter().api; }

private:
    std::unique_ptr<T, Release> owned_;
};

/* Calls a function of the ABI, which takes the place for its error last. Errors are thrown, outcomes come back. */
template <class... Parameters, class... Arguments>
octopus_status outcome(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    octopus_error *error = nullptr;
    const octopus_status status = function(arguments..., &error);
    if (status < 0)
        Error::raise(api, status, error);
    return status;
}

/* As `outcome`, where nothing but success is expected. */
template <class... Parameters, class... Arguments>
void call(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    const octopus_status status = outcome(api, function, arguments...);
    if (status != OCTOPUS_OK)
        Error::raise(api, status, nullptr);
}

/* As `call`; false when the time passed. */
template <class... Parameters, class... Arguments>
bool call_in_time(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    const octopus_status status = outcome(api, function, arguments...);
    if (status != OCTOPUS_OK && status != OCTOPUS_TIMED_OUT)
        Error::raise(api, status, nullptr);
    return status == OCTOPUS_OK;
}

/* Calls a function that gives a handle, for which the place comes before the error's. */
template <class T, class... Parameters, class... Arguments>
Handle<T> make(const octopus_api &api, octopus_status (*function)(Parameters...), Arguments... arguments)
{
    T *made = nullptr;
    call(api, function, arguments..., &made);
    return Handle<T>(api, made);
}

/* Calls a function that writes a number, say. */
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

inline std::string_view view(octopus_text from) { return {from.data, static_cast<std::size_t>(from.size)}; }

inline std::string_view view(octopus_bytes from)
{
    return {reinterpret_cast<const char *>(from.data), static_cast<std::size_t>(from.size)};
}

inline std::vector<std::string_view> views(const octopus_bytes *segments, std::uint64_t count)
{
    std::vector<std::string_view> all;
    all.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t index = 0; index < count; index++)
        all.push_back(view(segments[index]));
    return all;
}

/* A struct of the ABI: all defaults, and its size. */
template <class T> T sized()
{
    T made{};
    made.size = sizeof made;
    return made;
}

inline std::string taken(Handle<octopus_string> string)
{
    return std::string(view(string.api().string->view(string.get())));
}

/* What a callback gets as its context: an object of ours, deleted by `destroy`. */
template <class T> void *give_away(std::unique_ptr<T> object) { return object.release(); }
template <class T> void destroy(void *context) noexcept { delete static_cast<T *>(context); }

/* What is being thrown, in words. */
inline std::string thrown()
{
    try {
        throw;
    } catch (const std::exception &exception) {
        return exception.what();
    } catch (...) {
        return "an exception that is no std::exception";
    }
}

/* Answers for a function of the host's: what it throws is why it failed. */
template <class Reply, class Work> octopus_status answer(const Reply *reply, Work work) noexcept
{
    try {
        work();
        return OCTOPUS_OK;
    } catch (...) {
        const std::string why = thrown();
        reply->refuse(reply->token, text(why));
        return OCTOPUS_CALLBACK_FAILED;
    }
}

inline std::optional<std::uint64_t> requested_partition(std::int64_t requested)
{
    return requested < 0 ? std::nullopt : std::optional<std::uint64_t>(requested);
}

} // namespace detail

} // namespace octopus

#endif /* OCTOPUS_DETAIL_HPP */

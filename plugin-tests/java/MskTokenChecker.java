import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * Checks a token as an MSK broker does, but without AWS: computes the signature with the secret of
 * the test. Options of the login module: region, accessKey, secretKey, sessionToken (if not set,
 * the token must have none), log, a file that receives a line for each token, and knownOnce, a file
 * that must exist before the key is accepted (if not set, the key is accepted at once).
 */
public final class MskTokenChecker implements AuthenticateCallbackHandler {
    private static final DateTimeFormatter DATE =
            DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

    private Map<String, ?> options;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        options = entries.get(0).getOptions();
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback validation)) {
                throw new UnsupportedCallbackException(callback);
            }
            try {
                OAuthBearerToken token = check(validation.tokenValue());
                validation.token(token);
                log("accepted " + token.startTimeMs());
            } catch (Exception error) {
                validation.error("invalid_token", null, null);
                log("refused " + error.getMessage());
            }
        }
    }

    @Override
    public void close() {}

    private OAuthBearerToken check(String value) throws Exception {
        String knownOnce = option("knownOnce");
        require(knownOnce == null || Files.exists(Path.of(knownOnce)), "the key is not known yet");
        String url = new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8);
        require(!value.contains("="), "the token has padding");
        URI request = URI.create(url);
        Map<String, String> parameters = new TreeMap<>();
        String last = null;
        for (String pair : request.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            require(parameters.put(parts[0], parts[1]) == null, "duplicate parameter: " + parts[0]);
            last = parts[0];
        }
        require("User-Agent".equals(last), "User-Agent is not appended after the signature");
        parameters.remove("User-Agent");
        String signature = parameters.remove("X-Amz-Signature");
        String host = "kafka." + option("region") + ".amazonaws.com";
        require("https".equals(request.getScheme()) && host.equals(request.getHost()), "the host is " + request.getHost());
        require("/".equals(request.getRawPath()), "the path is " + request.getRawPath());
        require("kafka-cluster:Connect".equals(decoded(parameters, "Action")), "unexpected action");
        require("AWS4-HMAC-SHA256".equals(decoded(parameters, "X-Amz-Algorithm")), "unexpected algorithm");
        require("host".equals(decoded(parameters, "X-Amz-SignedHeaders")), "other headers are signed");
        String session = (String) options.get("sessionToken");
        require(
                session == null ? !parameters.containsKey("X-Amz-Security-Token")
                        : session.equals(decoded(parameters, "X-Amz-Security-Token")),
                "unexpected session token");
        Set<String> known = Set.of("Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                "X-Amz-SignedHeaders", "X-Amz-Security-Token");
        require(known.containsAll(parameters.keySet()), "unexpected parameters");

        String date = decoded(parameters, "X-Amz-Date");
        long start = Instant.from(DATE.parse(date)).toEpochMilli();
        long life = 1000 * Long.parseLong(decoded(parameters, "X-Amz-Expires"));
        require(life > 0 && life <= 900_000, "the lifetime is " + life + " ms");
        long now = System.currentTimeMillis();
        require(start <= now + 1000, "the date is in the future");
        require(now < start + life, "the token expired " + (now - start - life) + " ms ago");

        String day = date.substring(0, 8);
        String scope = day + "/" + option("region") + "/kafka-cluster/aws4_request";
        require((option("accessKey") + "/" + scope).equals(decoded(parameters, "X-Amz-Credential")), "unexpected credential");
        StringBuilder query = new StringBuilder();
        parameters.forEach((name, raw) -> query.append(query.isEmpty() ? "" : "&").append(name).append("=").append(raw));
        String canonical = "GET\n/\n" + query + "\nhost:" + host + "\n\nhost\n" + sha256("");
        String toSign = "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + sha256(canonical);
        byte[] key = ("AWS4" + option("secretKey")).getBytes(StandardCharsets.UTF_8);
        for (String part : scope.split("/")) {
            key = hmac(key, part);
        }
        require(HexFormat.of().formatHex(hmac(key, toSign)).equals(signature), "the signature is wrong");
        return new Accepted(value, start, start + life, option("accessKey"));
    }

    private record Accepted(String value, Long startTimeMs, long lifetimeMs, String principalName)
            implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }
    }

    private String option(String name) {
        return (String) options.get(name);
    }

    private synchronized void log(String line) {
        try {
            Files.writeString(Path.of(option("log")), line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (java.io.IOException failure) {
            throw new java.io.UncheckedIOException(failure);
        }
    }

    private static String decoded(Map<String, String> parameters, String name) {
        require(parameters.containsKey(name), name + " is missing");
        return URLDecoder.decode(parameters.get(name).replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String sha256(String text) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        return HexFormat.of().formatHex(hash);
    }

    private static void require(boolean holds, String message) {
        if (!holds) {
            throw new IllegalArgumentException(message);
        }
    }
}

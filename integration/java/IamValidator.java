import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * Lets in who shows a token of MSK's IAM, as far as its form is published: a request to connect, presigned (Signature Version 4, query parameters)
 * with a key that is known here. Settings of the listener: `kuroshio.iam.region`, and `kuroshio.iam.keys` (`id:secret,…`). Ids of temporary keys
 * begin with ASIA; theirs come with a session token, which is `until-<milliseconds since 1970>` here.
 */
public final class IamValidator implements AuthenticateCallbackHandler {
    private static final Set<String> NEEDED = Set.of("Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders");
    private static final DateTimeFormatter DATE = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    private static final Duration LONGEST = Duration.ofSeconds(900);

    private final Map<String, String> secrets = new HashMap<>();
    private String region;

    /** Why nobody is let in with this. */
    private static final class Refused extends Exception {
        Refused(String why) {
            super(why);
        }
    }

    private record Token(String value, String principalName, long from, long lifetimeMs) implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }

        @Override
        public Long startTimeMs() {
            return from;
        }
    }

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        region = setting(configs, "region");
        for (String key : setting(configs, "keys").split(",")) {
            secrets.put(key.split(":")[0], key.split(":")[1]);
        }
    }

    /** What Kafka does not know comes under its full name, with the listener's. */
    private static String setting(Map<String, ?> configs, String name) {
        String end = ".kuroshio.iam." + name;
        return configs.entrySet().stream().filter(entry -> entry.getKey().endsWith(end)).map(entry -> (String) entry.getValue()).findFirst().orElseThrow();
    }

    @Override
    public void close() {
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback asked)) {
                throw new UnsupportedCallbackException(callback);
            }
            try {
                asked.token(token(asked.tokenValue()));
            } catch (Refused why) {
                asked.error(why.getMessage(), null, null);
            } catch (RuntimeException | GeneralSecurityException why) {
                asked.error("the token is garbled: " + why.getClass().getSimpleName(), null, null);
            }
        }
    }

    private Token token(String value) throws Refused, GeneralSecurityException {
        URI request = URI.create(new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8));
        String host = "kafka." + region + ".amazonaws.com";
        holds("https".equals(request.getScheme()) && host.equals(request.getAuthority()) && "/".equals(request.getRawPath()),
            "the request is not for " + host);
        // As they are written: what is signed is the written form.
        var fields = new TreeMap<String, String>();
        for (String field : request.getRawQuery().split("&")) {
            String[] pair = field.split("=", 2);
            holds(fields.put(pair[0], pair[1]) == null, pair[0] + " is there twice");
        }
        holds(fields.remove("User-Agent") != null, "no User-Agent");
        String signature = fields.remove("X-Amz-Signature");
        String session = fields.get("X-Amz-Security-Token");
        var others = fields.keySet().stream().filter(name -> !name.equals("X-Amz-Security-Token")).collect(Collectors.toSet());
        holds(others.equals(NEEDED), "not the fields of a token: " + others);
        holds(fields.get("Action").equals("kafka-cluster%3AConnect"), "no request to connect");
        holds(fields.get("X-Amz-Algorithm").equals("AWS4-HMAC-SHA256"), "not signed by AWS4-HMAC-SHA256");
        holds(fields.get("X-Amz-SignedHeaders").equals("host"), "not the host alone is signed");

        Instant from = DATE.parse(fields.get("X-Amz-Date"), Instant::from);
        Duration life = Duration.ofSeconds(Long.parseLong(fields.get("X-Amz-Expires")));
        holds(!life.isNegative() && life.compareTo(LONGEST) <= 0, "good for longer than 900 seconds");
        Instant now = Instant.now();
        holds(!from.isAfter(now.plusSeconds(60)) && now.isBefore(from.plus(life)), "the request has expired");

        String[] credential = fields.get("X-Amz-Credential").split("%2F", 2);
        String scope = fields.get("X-Amz-Date").substring(0, 8) + "/" + region + "/kafka-cluster/aws4_request";
        holds(credential[1].replace("%2F", "/").equals(scope), "not signed for " + scope);
        String secret = secrets.get(credential[0]);
        holds(secret != null, "nobody known has the key " + credential[0]);
        holds(credential[0].startsWith("ASIA") == (session != null), "a session token goes with temporary keys, and with no others");
        holds(MessageDigest.isEqual(bytes(signed(fields, host, scope, secret)), bytes(signature)), "the signature does not match");

        long until = from.plus(life).toEpochMilli();
        if (session != null) {
            until = Math.min(until, Long.parseLong(session.substring("until-".length())));
            holds(now.toEpochMilli() < until, "the session token has expired");
        }
        return new Token(value, credential[0], from.toEpochMilli(), until);
    }

    /** The signature of a request without headers but its host, and without a body. */
    private static String signed(TreeMap<String, String> fields, String host, String scope, String secret) throws GeneralSecurityException {
        String query = fields.entrySet().stream().map(field -> field.getKey() + "=" + field.getValue()).collect(Collectors.joining("&"));
        String request = String.join("\n", "GET", "/", query, "host:" + host, "", "host", sha256(""));
        String toSign = String.join("\n", "AWS4-HMAC-SHA256", fields.get("X-Amz-Date"), scope, sha256(request));
        byte[] key = bytes("AWS4" + secret);
        for (String part : scope.split("/")) {
            key = hmac(key, part);
        }
        return HexFormat.of().formatHex(hmac(key, toSign));
    }

    private static String sha256(String text) throws GeneralSecurityException {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes(text)));
    }

    private static byte[] hmac(byte[] key, String text) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(bytes(text));
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void holds(boolean condition, String why) throws Refused {
        if (!condition) {
            throw new Refused(why);
        }
    }
}

import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.security.KeyStore;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/**
 * Reads lines "USAGE ANCHOR LEAF [INTERMEDIATE...]" (files in DER) and answers each with
 * "OK" or "NO reason". USAGE any is the plain PKIX check; client and server are what
 * a TLS stack asks its trust manager.
 */
public class CheckChain {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.trim().split(" ");
            List<X509Certificate> path = new ArrayList<>();
            for (int i = 2; i < words.length; i++) {
                path.add(read(words[i]));
            }
            try {
                check(words[0], read(words[1]), path);
                System.out.println("OK");
            } catch (Exception e) {
                StringBuilder text = new StringBuilder("NO");
                for (Throwable t = e; t != null; t = t.getCause()) {
                    text.append(" / ").append(t.getMessage());
                }
                System.out.println(text.toString().replace('\n', ' '));
            }
        }
    }

    static X509Certificate read(String file) throws Exception {
        try (FileInputStream in = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in);
        }
    }

    static void check(String usage, X509Certificate anchor, List<X509Certificate> path) throws Exception {
        if (usage.equals("any")) {
            CertPath p = CertificateFactory.getInstance("X.509").generateCertPath(path);
            PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(anchor, null)));
            parameters.setRevocationEnabled(false);
            CertPathValidator.getInstance("PKIX").validate(p, parameters);
            return;
        }
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("anchor", anchor);
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(store);
        X509TrustManager manager = (X509TrustManager) factory.getTrustManagers()[0];
        X509Certificate[] chain = path.toArray(new X509Certificate[0]);
        if (usage.equals("client")) {
            manager.checkClientTrusted(chain, path.get(0).getPublicKey().getAlgorithm());
        } else {
            manager.checkServerTrusted(chain, "ECDHE_ECDSA");
        }
    }
}

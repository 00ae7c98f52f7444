import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * An HTTP server with a pool of threads, and a garbage collector with some of its own: it serves a page, counts how often, and
 * its timer ticks.
 */
public class PageServer {
    private static final AtomicLong count = new AtomicLong(), ticks = new AtomicLong();

    public static void main(String[] arguments) throws IOException {
        var page = Path.of(arguments[1], "pages", "page");
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/page", exchange -> {
            // Something to be collected.
            var garbage = new byte[256][];
            for (int i = 0; i < garbage.length; i++) garbage[i] = new byte[1024];
            count.incrementAndGet();
            say(exchange, Files.readAllBytes(page));
        });
        server.createContext("/count", exchange -> say(exchange, (count + "\n").getBytes()));
        server.createContext("/ticks", exchange -> say(exchange, (ticks + "\n").getBytes()));
        server.start();
        Executors.newScheduledThreadPool(1)
            .scheduleAtFixedRate(ticks::incrementAndGet, 10, 10, TimeUnit.MILLISECONDS);
    }

    private static void say(HttpExchange exchange, byte[] text) throws IOException {
        exchange.getResponseHeaders().set("Connection", "close");
        exchange.sendResponseHeaders(200, text.length);
        exchange.getResponseBody().write(text);
        exchange.close();
    }
}

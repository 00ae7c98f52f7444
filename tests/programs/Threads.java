import java.io.PrintWriter;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32;

/** A pool of threads, compiled code, garbage collections, sleeps, an open file. */
public class Threads {
    static final ConcurrentHashMap<Integer, Long> table = new ConcurrentHashMap<>();

    static long work(int number) throws InterruptedException {
        CRC32 sum = new CRC32();
        List<byte[]> kept = new ArrayList<>();
        for (int turn = 0; turn < 400; turn++) {
            byte[] block = new byte[8192];
            for (int at = 0; at < block.length; at++)
                block[at] = (byte) (at * number + turn ^ (at >> 3));
            sum.update(block);
            if (turn % 50 == 0)
                kept.add(block);
        }
        if (number % 20 == 0)
            Thread.sleep(10);
        table.merge(number % 10, sum.getValue(), Long::sum);
        return sum.getValue() + kept.size();
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> results = new ArrayList<>();
        for (int number = 0; number < 600; number++) {
            int own = number;
            results.add(pool.submit(() -> work(own)));
        }
        try (PrintWriter report = new PrintWriter("report")) {
            for (Future<Long> result : results)
                report.println(result.get());
        }
        pool.shutdown();
        System.out.println(new TreeMap<>(table));
    }
}

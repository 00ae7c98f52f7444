// Many goroutines on several threads: channels, locks, growing stacks, threads of their own. No files, no timers and so
// little garbage that none is collected: for each of them Go's runtime opens an epoll instance (see sleeps.go).
package main

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
)

func work(number int, depth int) [32]byte {
	if depth > 0 {
		var place [128]byte // a deep stack, which has to be moved when it grows
		place[number%128] = byte(depth)
		below := work(number+int(place[5]), depth-1)
		place[3] ^= below[depth%32]
		return sha256.Sum256(append(place[:100:100], below[:28]...))
	}
	sum := sha256.Sum256([]byte{byte(number), byte(number >> 8)})
	var block [4096]byte
	for turn := 0; turn < 150; turn++ {
		copy(block[turn*8:], sum[:])
		sum = sha256.Sum256(block[:])
	}
	return sum
}

func main() {
	runtime.GOMAXPROCS(4)
	const many = 600
	type result struct {
		number int
		sum    [32]byte
	}
	jobs, results := make(chan int), make(chan result, 16)
	var lock sync.Mutex
	var all sync.WaitGroup
	busy := map[int]bool{}
	for worker := 0; worker < 200; worker++ {
		all.Add(1)
		own := worker < 12
		go func() {
			defer all.Done()
			if own {
				runtime.LockOSThread()
			}
			for number := range jobs {
				lock.Lock()
				busy[number] = true
				lock.Unlock()
				results <- result{number, work(number, number%30)}
				lock.Lock()
				delete(busy, number)
				lock.Unlock()
			}
		}()
	}
	go func() {
		for number := 0; number < many; number++ {
			jobs <- number
		}
		close(jobs)
		all.Wait()
		close(results)
	}()
	sums := make([][32]byte, many)
	for result := range results {
		sums[result.number] = result.sum
	}
	for number, sum := range sums {
		fmt.Printf("%d %x\n", number, sum)
	}
	fmt.Println(len(busy), "busy")
}

// A timer and a file: Go's runtime opens an epoll instance for them.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	report, err := os.Create("report")
	if err != nil {
		panic(err)
	}
	for turn := 0; turn < 100; turn++ {
		time.Sleep(10 * time.Millisecond)
		fmt.Fprintln(report, turn)
	}
}

// An HTTP server of Go: it serves a page, counts how often, and its timer ticks.
package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

func main() {
	var count, ticks int64
	says := func(number *int64) http.HandlerFunc {
		return func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(answer, atomic.LoadInt64(number))
		}
	}
	http.HandleFunc("/page", func(answer http.ResponseWriter, _ *http.Request) {
		page, err := os.ReadFile(os.Args[2] + "/pages/page")
		if err != nil {
			panic(err)
		}
		atomic.AddInt64(&count, 1)
		answer.Write(page)
	})
	http.HandleFunc("/count", says(&count))
	http.HandleFunc("/ticks", says(&ticks))
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			atomic.AddInt64(&ticks, 1)
		}
	}()
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}

// Go's net/http. Go has one way to wait, so both names of a job lead to the same code.
package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	events = 100_000
	size   = 1 << 30
)

var chunk = make([]byte, 65_536)

// eventStream writes events and, on flush, sends them through gzip if the client asked for it.
type eventStream struct {
	io.Writer
	encoder    *gzip.Writer
	controller *http.ResponseController
}

func newEventStream(w http.ResponseWriter, r *http.Request) *eventStream {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	stream := &eventStream{Writer: w, controller: http.NewResponseController(w)}
	if r.Header.Get("Accept-Encoding") == "gzip" {
		w.Header().Set("Content-Encoding", "gzip")
		stream.encoder, _ = gzip.NewWriterLevel(w, gzip.BestSpeed)
		stream.Writer = stream.encoder
	}
	return stream
}

func (s *eventStream) flush() error {
	if s.encoder != nil {
		if err := s.encoder.Flush(); err != nil {
			return err
		}
	}
	return s.controller.Flush()
}

func (s *eventStream) close() {
	if s.encoder != nil {
		s.encoder.Close()
	}
}

func parameter(r *http.Request, name string, otherwise float64) float64 {
	if value, err := strconv.ParseFloat(r.URL.Query().Get(name), 64); err == nil {
		return value
	}
	return otherwise
}

func burst(w http.ResponseWriter, r *http.Request) {
	stream := newEventStream(w, r)
	defer stream.close()
	count := int(parameter(r, "count", events))
	for i := range count {
		if _, err := fmt.Fprintf(stream, "id: %d\nevent: counter\ndata: Event %d\n\n", i, i); err != nil {
			return
		}
		if stream.flush() != nil {
			return
		}
	}
}

func paced(w http.ResponseWriter, r *http.Request) {
	stream := newEventStream(w, r)
	interval := time.Duration(float64(time.Second) / parameter(r, "rate", 10))
	for {
		stamp := float64(time.Now().UnixMicro()) / 1e6
		if _, err := fmt.Fprintf(stream, "data: %.6f\n\n", stamp); err != nil {
			return
		}
		if stream.flush() != nil {
			return
		}
		select {
		case <-time.After(interval):
		case <-r.Context().Done():
			return
		}
	}
}

func idle(w http.ResponseWriter, r *http.Request) {
	stream := newEventStream(w, r)
	fmt.Fprint(stream, "data: open\n\n")
	stream.flush()
	<-r.Context().Done()
}

func download(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	for left := int(parameter(r, "size", size)); left > 0; left -= len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Hello, world!")
}

func helloJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"message": "Hello, world!"})
}

func main() {
	jobs := map[string]http.HandlerFunc{
		"burst": burst, "paced": paced, "idle": idle, "download": download, "hello": hello, "json": helloJSON,
	}
	for name, job := range jobs {
		http.HandleFunc("GET /"+name+"-sync", job)
		http.HandleFunc("GET /"+name+"-async", job)
	}
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	log.Fatal(server.ListenAndServe())
}

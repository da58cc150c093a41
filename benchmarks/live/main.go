// live: many subscribers as streams of a few connections, and publishers whose rows bear the time of their sending.
//
//	live -addr 127.0.0.1:50051 -user feed -password feed -subscribers 500 -seconds 5 -pid 4711
//	live ... -quotes 200     one quote at a time to one subscriber: how long after the receipt it arrives
//	live ... -hold           subscribes, prints "ready", reads until its input ends: others publish meanwhile
//
// In the query, {symbol} becomes a symbol for each subscriber in turn, {i} its number. Prints one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type settings struct {
	addr, user, password, query, mode       string
	subscribers, connections                int
	publishers, rate, rows, symbols, quotes int
	seconds                                 float64
	pid                                     int
	hold                                    bool
}

// load is one run: the connections, and what its streams have counted.
type load struct {
	settings
	ctx     context.Context
	clients []flight.Client
	readers []*reader
	ended   sync.WaitGroup
}

func connect(s settings) (*load, error) {
	l := &load{settings: s, ctx: context.Background()}
	for range max(1, s.connections) {
		client, err := flight.NewClientWithMiddleware(s.addr, nil, nil,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
		if err != nil {
			return nil, err
		}
		l.clients = append(l.clients, client)
	}
	if s.user == "" {
		return l, nil
	}
	var err error
	l.ctx, err = l.clients[0].AuthenticateBasicToken(l.ctx, s.user, s.password)
	return l, err
}

// subscribe opens every stream, a few at a time, and returns when each has had its snapshot.
func (l *load) subscribe(ctx context.Context) error {
	ready := make(chan error, l.subscribers)
	slots := make(chan struct{}, 32)
	for i := range l.subscribers {
		r := &reader{symbol: -1, timed: !l.hold}
		text := strings.ReplaceAll(l.query, "{i}", fmt.Sprint(i))
		if strings.Contains(text, "{symbol}") {
			r.symbol = i % l.symbols
			text = strings.ReplaceAll(text, "{symbol}", symbol(r.symbol))
		}
		command, err := json.Marshal(map[string]string{"subscribe": text, "mode": l.mode})
		if err != nil {
			return err
		}
		l.readers = append(l.readers, r)
		l.ended.Add(1)
		go func() {
			defer l.ended.Done()
			slots <- struct{}{}
			r.run(ctx, l.clients[i%len(l.clients)], command, func(err error) {
				<-slots
				ready <- err
			})
		}()
	}
	for range l.subscribers {
		select {
		case err := <-ready:
			if err != nil {
				return err
			}
		case <-time.After(120 * time.Second):
			return fmt.Errorf("the subscribers got no snapshot within 2 minutes")
		}
	}
	return nil
}

func at(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(share*float64(len(sorted)-1))]
}

// short is how many subscribers have not been told of as many rows as they should.
func (l *load) short(wanted func(*reader) int64) (short int) {
	for _, r := range l.readers {
		if count := r.counted(); wanted(r) != count.rows+count.merged {
			short++
		}
	}
	return short
}

// report sums up what the readers have counted; the numbers of rows that each should have been told are in wanted.
func (l *load) report(wanted func(*reader) int64) map[string]any {
	var times []float64
	var messages, rows, merged, want int64
	failures := map[string]int{}
	for _, r := range l.readers {
		count := r.counted()
		times = append(times, count.times...)
		messages += count.messages
		rows += count.rows
		merged += count.merged
		if count.err != nil {
			failures[count.err.Error()]++
		}
		if wanted != nil {
			want += wanted(r)
		}
	}
	sort.Float64s(times)
	found := map[string]any{
		"messages": messages, "rows": rows, "merged": merged, "p50_ms": at(times, 0.5), "p99_ms": at(times, 0.99),
		"max_ms": at(times, 1), "failed": len(failures),
	}
	if wanted != nil {
		found["rows_expected"], found["subscribers_short"] = want, l.short(wanted)
	}
	if len(failures) > 0 {
		found["failures"] = failures
	}
	return found
}

// fan publishes at the rate for the seconds, and waits until everything has been told.
func (l *load) fan() (map[string]any, error) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	before := look(l.pid)
	if err := l.subscribe(ctx); err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond)
	open := look(l.pid)
	mine, started := ownCPU(), time.Now()
	sent, err := l.publish(ctx)
	if err != nil {
		return nil, err
	}
	published := time.Since(started).Seconds()
	wanted := func(r *reader) int64 {
		if r.symbol < 0 {
			return sent.rows
		}
		return sent.bySymbol[r.symbol]
	}
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if l.short(wanted) == 0 {
			break
		}
	}
	elapsed := time.Since(started).Seconds()
	after, clientCPU := look(l.pid), ownCPU()-mine
	found := l.report(wanted)
	cancel()
	l.ended.Wait()
	messages := float64(max(1, found["messages"].(int64)))
	found["batches_sent"], found["batches_per_second"] = sent.batches, float64(sent.batches)/published
	found["drain_seconds"] = elapsed - published
	found["ack_p50_ms"], found["ack_p99_ms"] = at(sent.times, 0.5), at(sent.times, 0.99)
	found["server_cores"] = (after.cpu - open.cpu) / elapsed
	found["server_cpu_us_per_message"] = (after.cpu - open.cpu) / messages * 1e6
	found["client_cpu_us_per_message"] = clientCPU / messages * 1e6
	found["kb_per_subscriber_open"] = (open.rss - before.rss) / 1000 / float64(l.subscribers)
	found["kb_per_subscriber"] = (after.rss - before.rss) / 1000 / float64(l.subscribers)
	found["server_threads"] = after.threads
	return found, nil
}

// held reads until the input ends; what came, and from when to when, is told.
func (l *load) held() (map[string]any, error) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	if err := l.subscribe(ctx); err != nil {
		return nil, err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	found := l.report(nil)
	cancel()
	l.ended.Wait()
	return found, nil
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.StringVar(&s.addr, "addr", "127.0.0.1:50051", "server")
	flag.StringVar(&s.user, "user", "", "user name; none: no login")
	flag.StringVar(&s.password, "password", "", "password")
	flag.StringVar(&s.query, "query", "SELECT * FROM market_data", "what is subscribed to: all columns of market_data")
	flag.StringVar(&s.mode, "mode", "", "delivery: conflate, buffer or interval; none: the server's default")
	flag.IntVar(&s.subscribers, "subscribers", 100, "streams")
	flag.IntVar(&s.connections, "connections", 4, "connections that the streams share")
	flag.IntVar(&s.publishers, "publishers", 1, "publishers, that share the rate and the symbols")
	flag.IntVar(&s.rate, "rate", 10, "batches per second, all publishers together")
	flag.IntVar(&s.rows, "rows", 10, "rows of a batch")
	flag.IntVar(&s.symbols, "symbols", 1000, "symbols")
	flag.IntVar(&s.quotes, "quotes", 0, "publish so many single quotes, one after the other's receipt")
	flag.Float64Var(&s.seconds, "seconds", 5, "how long to publish")
	flag.IntVar(&s.pid, "pid", 0, "the server's process, whose CPU and memory are told")
	flag.BoolVar(&s.hold, "hold", false, "publish nothing, read until the input ends")
	flag.Parse()
	l, err := connect(s)
	if err != nil {
		log.Fatal(err)
	}
	run := l.fan
	switch {
	case s.hold:
		run = l.held
	case s.quotes > 0:
		run = l.quote
	}
	found, err := run()
	if err != nil {
		log.Fatal(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

// lean: a closed loop of GetFlightInfo + DoGet, one connection per client, counting calls and their times.
//
// It drops the messages undecoded, so that the client costs as little as a client can.
//
//	lean -addr 127.0.0.1:50052 -user reader -password reader -query 'SELECT 1' -clients 8 -seconds 5
//
// In the query, {symbol} becomes a random one of S00000 to S00999.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type client struct {
	ctx   context.Context
	inner *flightsql.Client
	query string
}

func connect(addr, user, password, query string) (*client, error) {
	inner, err := flightsql.NewClient(addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if user != "" {
		if ctx, err = inner.Client.AuthenticateBasicToken(ctx, user, password); err != nil {
			return nil, err
		}
	}
	return &client{ctx, inner, query}, nil
}

func (c *client) once() error {
	text := strings.Replace(c.query, "{symbol}", fmt.Sprintf("S%05d", rand.IntN(1000)), 1)
	info, err := c.inner.Execute(c.ctx, text)
	if err != nil {
		return err
	}
	stream, err := c.inner.Client.DoGet(c.ctx, info.Endpoint[0].Ticket)
	if err != nil {
		return err
	}
	for {
		if _, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (c *client) loop(until time.Time) ([]float64, error) {
	var times []float64
	for {
		started := time.Now()
		if started.After(until) {
			return times, nil
		}
		if err := c.once(); err != nil {
			return times, err
		}
		times = append(times, time.Since(started).Seconds())
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:50052", "server")
	user := flag.String("user", "", "user name; none: no login")
	password := flag.String("password", "", "password")
	query := flag.String("query", "SELECT 1", "statement")
	clients := flag.Int("clients", 1, "clients at one time")
	seconds := flag.Float64("seconds", 5, "how long")
	flag.Parse()

	all := make([]*client, *clients)
	for i := range all {
		c, err := connect(*addr, *user, *password, *query)
		if err == nil {
			err = c.once()
		}
		if err != nil {
			log.Fatal(err)
		}
		all[i] = c
	}
	var mutex sync.Mutex
	var wait sync.WaitGroup
	var times []float64
	started := time.Now()
	until := started.Add(time.Duration(*seconds * float64(time.Second)))
	for _, c := range all {
		wait.Add(1)
		go func() {
			defer wait.Done()
			mine, err := c.loop(until)
			if err != nil {
				log.Fatal(err)
			}
			mutex.Lock()
			times = append(times, mine...)
			mutex.Unlock()
		}()
	}
	wait.Wait()
	elapsed := time.Since(started).Seconds()
	sort.Float64s(times)
	at := func(share float64) float64 { return times[int(share*float64(len(times)-1))] * 1000 }
	_ = json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"calls": float64(len(times)), "qps": float64(len(times)) / elapsed, "p50_ms": at(0.5), "p99_ms": at(0.99),
	})
}

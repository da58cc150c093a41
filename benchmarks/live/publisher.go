package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var schema = arrow.NewSchema([]arrow.Field{
	{Name: "symbol", Type: arrow.BinaryTypes.String},
	{Name: "bid_price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "ask_price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "last_price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "volume", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "timestamp", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
}, nil)

func symbol(number int) string { return fmt.Sprintf("S%05d", number) }

// publisher is one DoPut stream to market_data.
type publisher struct {
	stream flight.FlightService_DoPutClient
	writer *flight.Writer
}

func (l *load) publisher(ctx context.Context, number int) (*publisher, error) {
	stream, err := l.clients[number%len(l.clients)].DoPut(ctx)
	if err != nil {
		return nil, err
	}
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	writer.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"market_data"}})
	return &publisher{stream, writer}, nil
}

// send sends one batch with the time of now in every row, and waits for its receipt.
func (p *publisher) send(symbols []int) (sent, acknowledged time.Time, err error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	sent = time.Now()
	for _, number := range symbols {
		b.Field(0).(*array.StringBuilder).Append(symbol(number))
		for i := 1; i <= 3; i++ {
			b.Field(i).(*array.Float64Builder).Append(float64(number) + float64(i)/100)
		}
		b.Field(4).(*array.Int64Builder).Append(int64(number))
		b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(sent.UnixMicro()))
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	if err = p.writer.Write(batch); err == nil {
		_, err = p.stream.Recv()
	}
	return sent, time.Now(), err
}

// sent is what the publishers have sent; times are from sending to the receipt, sorted, in milliseconds.
type sent struct {
	batches, rows int64
	bySymbol      []int64
	times         []float64
}

// publish sends batches at the rate, each publisher its share of the symbols in turn.
func (l *load) publish(ctx context.Context) (*sent, error) {
	total := &sent{bySymbol: make([]int64, l.symbols)}
	var mutex sync.Mutex
	var all sync.WaitGroup
	var failure error
	pause := time.Duration(float64(time.Second) * float64(l.publishers) / float64(l.rate))
	end := time.Now().Add(time.Duration(l.seconds * float64(time.Second)))
	for number := range l.publishers {
		all.Add(1)
		go func() {
			defer all.Done()
			p, err := l.publisher(ctx, number)
			next, at := number, time.Now().Add(pause*time.Duration(number)/time.Duration(l.publishers))
			for err == nil && at.Before(end) {
				time.Sleep(time.Until(at))
				at = at.Add(pause)
				symbols := make([]int, l.rows)
				for i := range symbols {
					symbols[i] = next
					if next += l.publishers; next >= l.symbols {
						next = number
					}
				}
				var from, to time.Time
				from, to, err = p.send(symbols)
				mutex.Lock()
				total.batches++
				total.rows += int64(l.rows)
				total.times = append(total.times, to.Sub(from).Seconds()*1000)
				for _, one := range symbols {
					total.bySymbol[one]++
				}
				mutex.Unlock()
			}
			if err != nil {
				mutex.Lock()
				failure = err
				mutex.Unlock()
			}
		}()
	}
	all.Wait()
	sort.Float64s(total.times)
	return total, failure
}

// quote publishes single quotes to one subscriber; the next when the last one was received and acknowledged.
func (l *load) quote() (map[string]any, error) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	l.subscribers = 1
	received := make(chan time.Time, 16)
	if err := l.subscribe(ctx); err != nil {
		return nil, err
	}
	l.readers[0].mutex.Lock()
	l.readers[0].seen = func(when time.Time) { received <- when }
	l.readers[0].mutex.Unlock()
	p, err := l.publisher(ctx, 0)
	if err != nil {
		return nil, err
	}
	var whole, receipt, behind []float64
	for i := range l.quotes {
		from, acknowledged, err := p.send([]int{i % l.symbols})
		if err != nil {
			return nil, err
		}
		select {
		case when := <-received:
			if i >= l.quotes/10 { // the first ones warm it up
				whole = append(whole, when.Sub(from).Seconds()*1000)
				receipt = append(receipt, acknowledged.Sub(from).Seconds()*1000)
				behind = append(behind, when.Sub(acknowledged).Seconds()*1000)
			}
		case <-time.After(10 * time.Second):
			return nil, fmt.Errorf("quote %d did not arrive", i)
		}
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	l.ended.Wait()
	found := map[string]any{"quotes": len(whole)}
	for name, times := range map[string][]float64{"receive": whole, "receipt": receipt, "behind_receipt": behind} {
		sort.Float64s(times)
		found[name+"_p50_ms"], found[name+"_p99_ms"] = at(times, 0.5), at(times, 0.99)
	}
	return found, nil
}

package main

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
)

// changes runs what changes something: updates, bound values, transactions by id.
func changes(ctx context.Context, client *flightsql.Client) {
	update := func(sql string) (any, error) { return client.ExecuteUpdate(ctx, sql) }
	report("create", func() (any, error) { return update("CREATE OR REPLACE TABLE notes (id BIGINT, note VARCHAR)") })
	report("insert", func() (any, error) { return update("INSERT INTO notes VALUES (1, 'a'), (2, 'b')") })
	report("update", func() (any, error) { return update("UPDATE notes SET note = 'z'") })
	report("bound", func() (any, error) {
		statement, err := client.Prepare(ctx, "INSERT INTO notes VALUES (?, ?)")
		if err != nil {
			return nil, err
		}
		defer statement.Close(ctx)
		statement.SetParameters(notes(client, 3, 4, 5))
		return statement.ExecuteUpdate(ctx)
	})
	report("bound query", func() (any, error) {
		statement, err := client.Prepare(ctx, "SELECT note FROM notes WHERE id = ? AND note = ?")
		if err != nil {
			return nil, err
		}
		defer statement.Close(ctx)
		statement.SetParameters(notes(client, 4))
		info, err := statement.Execute(ctx)
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, info)
		return rows, err
	})
	report("rollback", func() (any, error) { return transaction(ctx, client, "INSERT INTO notes VALUES (10, 'x')", false) })
	report("commit", func() (any, error) { return transaction(ctx, client, "INSERT INTO notes VALUES (11, 'y')", true) })
	report("ended", func() (any, error) {
		one, err := client.BeginTransaction(ctx)
		if err != nil {
			return nil, err
		}
		if err := one.Rollback(ctx); err != nil {
			return nil, err
		}
		return one.ExecuteUpdate(ctx, "INSERT INTO notes VALUES (12, 'z')")
	})
	report("ingest", func() (any, error) { return ingest(ctx, client) })
	savepoint(ctx, client)
	report("rows", func() (any, error) { return query(ctx, client, "SELECT id, note FROM notes ORDER BY id") })
}

// notes is a batch of parameters, one row for each id.
func notes(client *flightsql.Client, ids ...int64) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	builder := array.NewRecordBuilder(client.Alloc, schema)
	defer builder.Release()
	for _, id := range ids {
		builder.Field(0).(*array.Int64Builder).Append(id)
		builder.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("n%d", id))
	}
	return builder.NewRecordBatch()
}

// transaction changes something, looks at it from inside and outside, and ends.
func transaction(ctx context.Context, client *flightsql.Client, sql string, commit bool) (any, error) {
	one, err := client.BeginTransaction(ctx)
	if err != nil {
		return nil, err
	}
	count, err := one.ExecuteUpdate(ctx, sql)
	if err != nil {
		return nil, err
	}
	info, err := one.Execute(ctx, "SELECT count(*) FROM notes")
	if err != nil {
		return nil, err
	}
	_, inside, err := fetch(ctx, client, info)
	if err != nil {
		return nil, err
	}
	outside, err := query(ctx, client, "SELECT count(*) FROM notes")
	if err != nil {
		return nil, err
	}
	if commit {
		err = one.Commit(ctx)
	} else {
		err = one.Rollback(ctx)
	}
	return []any{count, inside, outside}, err
}
